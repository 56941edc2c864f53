"""Metrics of shift invariance: pure functions on logits, and the paper's measures of a model on images.

The measures take any module or callable from images ``(N, C, H, W)`` to logits ``(N, classes)``.
A model that returns anything else, or NaN, is refused.
They put a module in evaluation mode while they run, and run without gradients on the images'
device. For a data set on disk use `antialiased_zoo.evaluation.evaluate`, which shares decoding and
forward passes between measures.
"""

from .consistency import Stability as Stability
from .consistency import accuracy as accuracy
from .consistency import agreement as agreement
from .consistency import circular_consistency as circular_consistency
from .consistency import crop_consistency as crop_consistency
from .consistency import diagonal_stability as diagonal_stability
from .consistency import flip_rate as flip_rate
from .consistency import top_k_correct as top_k_correct
from .consistency import wobble as wobble
from .corruptions import ALEXNET_ERRORS as ALEXNET_ERRORS
from .corruptions import CORRUPTIONS as CORRUPTIONS
from .corruptions import SEVERITIES as SEVERITIES
from .corruptions import corrupt as corrupt
from .corruptions import corruption_error as corruption_error
from .corruptions import corruption_folders as corruption_folders
from .corruptions import mean_corruption_error as mean_corruption_error
from .equivariance import feature_distance as feature_distance
from .equivariance import generation_stability as generation_stability
from .equivariance import layer_outputs as layer_outputs
from .equivariance import psnr as psnr
from .intervals import Figure as Figure
from .intervals import average as average
from .intervals import share as share
from .intervals import share_difference as share_difference
from .logits import logits_of as logits_of
from .logits import predicted as predicted
from .logits import require_classes as require_classes
from .meters import Meter as Meter
from .running import Model as Model
from .running import evaluating as evaluating
from .shifts import CROP_OFFSETS as CROP_OFFSETS
from .shifts import DIAGONAL_OFFSETS as DIAGONAL_OFFSETS
from .shifts import ROLL_OFFSETS as ROLL_OFFSETS
from .shifts import crop as crop
from .shifts import draw_pairs as draw_pairs
from .shifts import draw_paper_pairs as draw_paper_pairs
from .shifts import roll as roll
