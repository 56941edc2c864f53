"""Training from scratch and fine-tuning, with bit-identical resuming."""

from .batches import FileBatches, MemoryBatches
from .execution import Execution, launcher, processes
from .loop import TrainBatches, Trainer, ValBatches, top1
from .recipes import PRESETS, Recipe
from .runs import (
    RunFolder,
    load_weights,
    made_folder,
    manifest_entry,
    tensors_digest,
    versions,
    write_json,
)
from .settings import check_settings, merge_settings

__all__ = [
    "PRESETS",
    "Execution",
    "FileBatches",
    "MemoryBatches",
    "Recipe",
    "RunFolder",
    "TrainBatches",
    "Trainer",
    "ValBatches",
    "check_settings",
    "launcher",
    "load_weights",
    "made_folder",
    "manifest_entry",
    "merge_settings",
    "processes",
    "tensors_digest",
    "top1",
    "versions",
    "write_json",
]
