"""Training from scratch and fine-tuning, resumable to the bit."""

from .batches import FileBatches, MemoryBatches
from .execution import Execution, positive, processes
from .loop import TrainBatches, Trainer, ValBatches, top1
from .recipes import PRESETS, Recipe
from .runs import RunFolder, load_weights, manifest_entry, versions

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
    "load_weights",
    "manifest_entry",
    "positive",
    "processes",
    "top1",
    "versions",
]
