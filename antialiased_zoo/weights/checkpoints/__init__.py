"""From a verified file to tensors in a model, under torchvision's names."""

from .loading import convert, load_entry, load_into, read_state, read_tensors

__all__ = ["convert", "load_entry", "load_into", "read_state", "read_tensors"]
