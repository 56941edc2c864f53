"""The blur of two-dimensional maps on a GPU, padding and stride included, in one pass over the map."""

from .switch import blur_pool as blur_pool
from .switch import supports as supports
from .switch import use_gpu_kernels

__all__ = ["use_gpu_kernels"]
