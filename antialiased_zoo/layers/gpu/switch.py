"""The switch for the Triton kernel: off by default, and Triton is imported only when it is turned on."""

from __future__ import annotations

import importlib
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..filters import Blur
from ..torch_internals import is_functorch_active

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_MODES = ("reflect", "replicate", "constant")
# The kernel unrolls its loop over the taps: longer filters would take long to compile.
_MOST_TAPS = 16
_MOST_ELEMENTS = 2**31

# The operators, if the switch is on. One setting for the process, as in `torch.backends`: a context
# variable would be off in the threads that torch's data parallelism starts.
_operators: Any = None


def use_gpu_kernels(use: bool = True) -> bool:
    """Switch the Triton kernel for blurs of two-dimensional maps on a GPU on or off; it is off by default.

    The kernel pads, blurs and subsamples in one pass over the map, forward and backward, eager and
    compiled, where torch makes a padded copy and then convolves it. It is off by default because it
    has not been timed on a GPU yet (docs/gpu.md). The switch holds for the whole process and all
    its threads. Set it before compiling or exporting a model: `torch.compile` recompiles when it
    changes.

    Args:
        use: True uses the kernel where it is supported: maps in float16, bfloat16, float32
            (computed in float32) or float64, in any layout, and filters of at most 16 taps. Other
            blurs are computed as before.

    Returns:
        The previous setting.

    Raises:
        ImportError: If Triton 3.4 or newer is not installed.

    Example:
        >>> before = use_gpu_kernels(False)
        >>> use_gpu_kernels(before)
        False
    """
    global _operators
    before = _operators is not None
    try:
        _operators = importlib.import_module(".operators", __package__) if use else None
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise ImportError(
            "the GPU kernels need Triton, which torch's wheels for Linux bring: pip install triton"
        ) from None
    return before


def supports(x: Tensor, blur: Blur) -> bool:
    """True if the kernel is switched on and can blur the batch ``x``."""
    if _operators is None or x.device.type not in _operators.DEVICES or x.dim() != 4 or x.dtype not in _DTYPES:
        return False
    if blur.mode not in _MODES:  # the kernel would treat it as "replicate"
        return False
    if blur.is_subsampling or max(map(len, blur.taps)) > _MOST_TAPS or _is_transformed(x):
        return False
    # The kernel computes offsets within an image as 32-bit integers.
    return sum((n - 1) * s for n, s in zip(x.shape[1:], x.stride()[1:], strict=True)) < _MOST_ELEMENTS


def _is_transformed(x: Tensor) -> bool:
    """True in `torch.func` transforms and forward-mode AD, which torch's custom operators do not support."""
    if is_functorch_active():
        return True
    if torch.compiler.is_compiling():
        return False
    return forward_ad.unpack_dual(x).tangent is not None  # type: ignore[no-untyped-call]


def blur_pool(x: Tensor, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """Blur a supported batch, differentiably any number of times; ``kernel`` is ignored."""
    padding = [side for around in blur.padding for side in around]
    return cast(Tensor, _operators.blur_pool2d(x, *blur.taps, blur.stride, padding, blur.mode))
