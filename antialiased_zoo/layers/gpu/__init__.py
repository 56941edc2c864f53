"""A Triton kernel that pads, blurs and subsamples two-dimensional maps in one pass."""

from .switch import blur_pool as blur_pool
from .switch import supports as supports
from .switch import use_gpu_kernels

__all__ = ["use_gpu_kernels"]
