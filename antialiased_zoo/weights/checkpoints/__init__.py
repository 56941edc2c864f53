"""Reads weights files and loads their tensors into a model, under torchvision's names."""

from .comparison import holds_same
from .contents import Contents, check_finite, read_contents
from .loading import convert, load_entry, load_into
from .safetensors_files import write_safetensors

__all__ = [
    "Contents",
    "check_finite",
    "convert",
    "holds_same",
    "load_entry",
    "load_into",
    "read_contents",
    "write_safetensors",
]
