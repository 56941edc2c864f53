"""Reads weights files and loads their tensors into a model, under torchvision's names."""

from .comparison import holds_same
from .contents import Contents, read_contents
from .loading import check_finite, convert, load_entry, load_into, read_state, read_tensors

__all__ = [
    "Contents",
    "check_finite",
    "convert",
    "holds_same",
    "load_entry",
    "load_into",
    "read_contents",
    "read_state",
    "read_tensors",
]
