"""The choice of a kernel: each operation has a table, and the first row that supports the input computes it.

Compiled and exported code uses only a table's last row, the plain formula, which is one graph for
all sizes that the compiler can fuse, and rows that are a single torch operator for all sizes
(``compiles``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from . import formula, gpu
from .cpu.dense_pool import dense_max_blur_pool
from .eligibility import has_onednn, is_onednn_map, layout_of, needs_grad
from .filters import Blur
from .torch_functions import torch_function
from .window import Window

_Serves = TypeVar("_Serves", bound=Callable[..., bool])
_Computes = TypeVar("_Computes", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class Kernel(Generic[_Serves, _Computes]):
    """One row of a table: one implementation of an operation.

    Attributes:
        name: Its name in tests and in the benchmark.
        serves: True if it supports these arguments and is the fastest row that does.
        computes: The operation.
        because: The measurement that justifies it.
        compiles: True if compiled code may use it too.
    """

    name: str
    serves: _Serves
    computes: _Computes
    because: str
    compiles: bool = False


BlurKernel = Kernel[Callable[[Tensor, Blur], bool], Callable[[Tensor, Blur, Tensor | None], Tensor]]
MaxBlurKernel = Kernel[Callable[[Tensor, Window, Blur], bool], Callable[[Tensor, Window, Blur, Tensor | None], Tensor]]

_Row = TypeVar("_Row", bound=Kernel[Any, Any])


def blur_pool(x: Tensor, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """Apply a checked `Blur` to ``(N, C, *spatial)`` or ``(C, *spatial)``.

    ``kernel`` is ``blur.kernel()`` on the device of ``x``, if the caller keeps one.
    """
    if x.is_complex():
        return torch.complex(blur_pool(x.real, blur, kernel), blur_pool(x.imag, blur, kernel))
    check_map(x, blur)
    if x.dim() == 1 + len(blur.stride):
        return blur_pool(x.unsqueeze(0), blur, kernel).squeeze(0)
    with own_precision(x):
        return _row(BLUR, x, blur).computes(x, blur, kernel)


def max_blur_pool(x: Tensor, window: Window, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """Dense maximum over ``window``, then the blur; ``(N, C, *spatial)`` or ``(C, *spatial)``.

    Integer maps hold labels, which cannot be averaged: they get the maximum without the blur.
    """
    if not x.is_floating_point() and not x.is_quantized:
        pool = torch_function("max_pool{}d", len(window.size))
        return pool(x, window.size, blur.stride, window.padding, window.dilation, window.ceil_mode)
    check_map(x, blur)
    if x.dim() == 1 + len(window.size):
        return max_blur_pool(x.unsqueeze(0), window, blur, kernel).squeeze(0)
    with own_precision(x):
        return _row(MAX_BLUR, x, window, blur).computes(x, window, blur, kernel)


def _row(table: Sequence[_Row], *arguments: Any) -> _Row:
    is_compiling = torch.compiler.is_compiling()
    for row in table[:-1]:
        if (row.compiles or not is_compiling) and row.serves(*arguments):
            return row
    return table[-1]


def own_precision(x: Tensor) -> contextlib.AbstractContextManager[None]:
    """A context without autocast, so that a blur's result has its input's dtype."""
    if x.is_meta or not torch.is_autocast_enabled(x.device.type):  # autocast does not know meta tensors
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def check_map(x: Tensor, blur: Blur) -> None:
    """Raise a ValueError or TypeError if ``blur`` cannot be applied to ``x``."""
    shape, ndim = x.shape, len(blur.stride)
    if not ndim < len(shape) <= ndim + 2 or 0 in shape[-ndim:]:
        raise ValueError(
            f"expected a map of {ndim} non-empty spatial axes, (N, C, ...) or (C, ...), got shape {tuple(shape)}"
        )
    if x.is_quantized:
        raise TypeError(
            f"expected a floating-point map, got {x.dtype}: antialias first, then quantise by FX or PT2E, not eagerly"
        )
    if not x.is_floating_point():
        raise TypeError(f"expected a floating-point map, got {x.dtype}: convert it first, for example x.float()")


def _always(*_: object) -> bool:
    return True


def _only_subsamples(x: Tensor, blur: Blur) -> bool:
    return blur.is_subsampling


def _convolves_slowly(x: Tensor, blur: Blur) -> bool:
    """True on a CPU where oneDNN does not support ``x``: torch then convolves one channel at a time."""
    if not x.is_cpu:
        return False
    return x.dtype is torch.float64 or (x.dtype is torch.float32 and not has_onednn())


# Up to these sizes torch's own pool is as fast for channels-last maps: rows or columns if gradients
# are needed, otherwise bytes.
_SMALL_WITH_GRAD = 56
_SMALL = 2 << 20


def _pools_densely(x: Tensor, window: Window, blur: Blur) -> bool:
    if not is_onednn_map(x) or max(window.size) == 1:
        return False
    if min(window.dense_size(x.shape[2:])) < 1:  # smaller than the window: torch's pool says so
        return False
    if layout_of(x) == torch.contiguous_format:
        return True
    return max(x.shape[2:]) > _SMALL_WITH_GRAD if needs_grad(x) else x.numel() * x.element_size() > _SMALL


def _pool_then_blur(x: Tensor, window: Window, blur: Blur, kernel: Tensor | None) -> Tensor:
    return blur_pool(formula.dense_maximum(x, window, blur), blur, kernel)


BLUR: list[BlurKernel] = [
    Kernel("triton", gpu.supports, gpu.blur_pool, "ResNet-18 and -50 on an H100: docs/gpu.md", compiles=True),
    Kernel("subsample", _only_subsamples, formula.sliced, "filter size 1: nothing to blur"),
    Kernel("slices", _convolves_slowly, formula.sliced, "float64 on a CPU: results/ablation/README.md"),
    Kernel("convolution", _always, formula.convolved, "the formula"),
]
MAX_BLUR: list[MaxBlurKernel] = [
    Kernel("dense pool", _pools_densely, dense_max_blur_pool, "AlexNet, VGG, ResNet-18: results/ablation/README.md"),
    Kernel("pool, blur", _always, _pool_then_blur, "the formula"),
]
