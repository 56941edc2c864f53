"""Evaluating models on a data set: every image decoded once, every distinct view seen once by every model."""

from .cifar10 import Cifar10
from .data import CorruptImageError, ImageFiles, open_images
from .loop import Evaluation, Options, bare_seconds, evaluate
from .modelspec import NamedModel, class_index, load_named
from .photo import PhotoError, read_photo
from .plots import shift_curves
from .prediction import Prediction, class_names, predict
from .probes import Accuracy, Consistency, Corruptions, Diagonal, Probe
from .protocols import ShiftProtocol, cifar, imagenet, protocol_for
from .robustness import imagenet_c, imagenet_p
from .samples import common_layers

__all__ = [
    "Accuracy",
    "Cifar10",
    "Consistency",
    "CorruptImageError",
    "Corruptions",
    "Diagonal",
    "Evaluation",
    "ImageFiles",
    "NamedModel",
    "Options",
    "PhotoError",
    "Prediction",
    "Probe",
    "ShiftProtocol",
    "bare_seconds",
    "cifar",
    "class_index",
    "class_names",
    "common_layers",
    "evaluate",
    "imagenet",
    "imagenet_c",
    "imagenet_p",
    "load_named",
    "open_images",
    "predict",
    "protocol_for",
    "read_photo",
    "shift_curves",
]
