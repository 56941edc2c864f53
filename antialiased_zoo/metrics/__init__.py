"""Metrics of shift invariance: pure functions on logits, and the paper's measures of a model on images.

The measures take any module or callable from images ``(N, C, H, W)`` to logits ``(N, classes)``.
A model that returns anything else, or NaN, is refused.
They put a module in evaluation mode while they run, and run without gradients on the images'
device. For a data set on disk use `antialiased_zoo.evaluation.evaluate`, which shares decoding and
forward passes between measures.
"""

from .consistency import (
    Stability,
    accuracy,
    agreement,
    circular_consistency,
    crop_consistency,
    diagonal_stability,
    flip_rate,
    top_k_correct,
    wobble,
)
from .corruptions import (
    ALEXNET_ERRORS,
    CORRUPTIONS,
    SEVERITIES,
    corrupt,
    corruption_error,
    corruption_folders,
    mean_corruption_error,
)
from .equivariance import feature_distance, generation_stability, psnr
from .equivariance import layer_outputs as layer_outputs
from .intervals import Figure, average, share, share_difference
from .logits import logits_of as logits_of
from .logits import predicted as predicted
from .logits import require_classes as require_classes
from .meters import Meter
from .running import Model, evaluating
from .shifts import CROP_OFFSETS, DIAGONAL_OFFSETS, ROLL_OFFSETS, crop, draw_pairs, draw_paper_pairs, roll

__all__ = [
    "ALEXNET_ERRORS",
    "CORRUPTIONS",
    "CROP_OFFSETS",
    "DIAGONAL_OFFSETS",
    "ROLL_OFFSETS",
    "SEVERITIES",
    "Figure",
    "Meter",
    "Model",
    "Stability",
    "accuracy",
    "agreement",
    "average",
    "circular_consistency",
    "corrupt",
    "corruption_error",
    "corruption_folders",
    "crop",
    "crop_consistency",
    "diagonal_stability",
    "draw_pairs",
    "draw_paper_pairs",
    "evaluating",
    "feature_distance",
    "flip_rate",
    "generation_stability",
    "mean_corruption_error",
    "psnr",
    "roll",
    "share",
    "share_difference",
    "top_k_correct",
    "wobble",
]
