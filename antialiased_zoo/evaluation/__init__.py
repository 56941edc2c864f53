"""Evaluation of models on a data set: each image is decoded once, and each model sees each distinct view once."""

from . import plots as plots
from .batches import PhotoBatches, predictions_of
from .cifar10 import Cifar10
from .classes import ClassMap, class_index, match_classes
from .data import ImageFiles, open_images
from .data_sources import DATA_GRAMMAR, DATA_SOURCES, open_data, register_data_source
from .decoding import Options
from .devices import find_device
from .images import CorruptImageError, LabelledImages
from .loop import Evaluation, bare_seconds, count_outputs, evaluate
from .measures import PAPER_PAIRS, Accuracy, Consistency, Corruptions, Diagonal
from .model_sources import MODEL_SOURCES, Built, Request, register_model_source
from .modelspec import GRAMMAR, NamedModel, load_named, new_model, split_label
from .photo import PhotoError, read_photo
from .plots import shift_curves
from .prediction import Described as Described
from .prediction import Prediction, class_labels, predict
from .probes import PROBES, Probe, Settings, find_probe, register_probe
from .protocols import PROTOCOL_VERSION, ShiftProtocol, cifar, imagenet, protocol_for, with_room
from .reports import markdown_table, result_notes
from .robustness import imagenet_c, imagenet_p, perturbation_folders
from .samples import chosen_layers, common_layers, feature_maps, sample_canvases, stability_curves
from .seeds import torch_seed as torch_seed
from .stated import changed, described
from .subjects import PROTOCOLS, Subject, prepare

__all__ = [
    "DATA_GRAMMAR",
    "DATA_SOURCES",
    "GRAMMAR",
    "MODEL_SOURCES",
    "PAPER_PAIRS",
    "PROBES",
    "PROTOCOLS",
    "PROTOCOL_VERSION",
    "Accuracy",
    "Built",
    "Cifar10",
    "ClassMap",
    "Consistency",
    "CorruptImageError",
    "Corruptions",
    "Diagonal",
    "Evaluation",
    "ImageFiles",
    "LabelledImages",
    "NamedModel",
    "Options",
    "PhotoBatches",
    "PhotoError",
    "Prediction",
    "Probe",
    "Request",
    "Settings",
    "ShiftProtocol",
    "Subject",
    "bare_seconds",
    "changed",
    "chosen_layers",
    "cifar",
    "class_index",
    "class_labels",
    "common_layers",
    "count_outputs",
    "described",
    "evaluate",
    "feature_maps",
    "find_device",
    "find_probe",
    "imagenet",
    "imagenet_c",
    "imagenet_p",
    "load_named",
    "markdown_table",
    "match_classes",
    "new_model",
    "open_data",
    "open_images",
    "perturbation_folders",
    "predict",
    "predictions_of",
    "prepare",
    "protocol_for",
    "read_photo",
    "register_data_source",
    "register_model_source",
    "register_probe",
    "result_notes",
    "sample_canvases",
    "shift_curves",
    "split_label",
    "stability_curves",
    "with_room",
]
