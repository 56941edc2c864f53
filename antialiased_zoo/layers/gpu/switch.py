"""Whether blurs on a GPU go to the Triton kernel: off until asked for, and Triton is not imported before."""

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
# The kernel writes out every tap of a few rows: longer filters would take long to compile.
_MOST_TAPS = 16
_MOST_ELEMENTS = 2**31

# The operators, while they are in use. One setting for the process, as `torch.backends` has it: a
# context variable would be off in the threads that torch's data parallelism starts.
_operators: Any = None


def use_gpu_kernels(use: bool = True) -> bool:
    """Let a Triton kernel compute every blur of a two-dimensional map on a GPU; off by default.

    The kernel pads, blurs and subsamples in one pass over the map, forward and backward, eager and
    compiled, where torch pads a copy and then convolves it. It has not been timed on a GPU yet
    (docs/gpu.md), hence the switch. It holds for the whole process and all its threads. Set it
    before a model is compiled or exported: `torch.compile` compiles anew when it changes.

    Args:
        use: True to use the kernel where it can be used: maps in float16, bfloat16, float32 or
            float64 (computed in float32, or float64), in any layout, and filters of at most 16
            taps. All else goes as before.

    Returns:
        The setting until now.

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
    if blur.mode not in _MODES:  # the kernel would take it for "replicate"
        return False
    if blur.is_subsampling or max(map(len, blur.taps)) > _MOST_TAPS or _is_transformed(x):
        return False
    # Places within an image are 32-bit integers.
    return sum((n - 1) * s for n, s in zip(x.shape[1:], x.stride()[1:], strict=True)) < _MOST_ELEMENTS


def _is_transformed(x: Tensor) -> bool:
    """True in `torch.func` transforms and forward-mode differentiation, which torch's custom operators do not know."""
    if is_functorch_active():
        return True
    if torch.compiler.is_compiling():
        return False
    return forward_ad.unpack_dual(x).tangent is not None  # type: ignore[no-untyped-call]


def blur_pool(x: Tensor, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """The blur of a batch that is supported, differentiable any number of times; it needs no ``kernel`` of weights."""
    padding = [side for around in blur.padding for side in around]
    return cast(Tensor, _operators.blur_pool2d(x, *blur.taps, blur.stride, padding, blur.mode))
