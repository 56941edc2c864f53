"""The blur itself: one formula, and the quickest way to compute it for the tensor at hand."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor

from .bordered_blur import bordered_blur
from .filters import CONVOLUTIONS, Blur
from .padding import padded
from .tensors import has_onednn, is_onednn_map, layout_of, needs_grad

# In bytes: up to here a padded copy costs less than looking after the borders; with gradients it is made twice.
_SMALL = 16 << 20
_SMALL_WITH_GRAD = {torch.contiguous_format: 7 << 19, torch.channels_last: 8 << 20}

_AS_IT_IS = contextlib.nullcontext()


def blur_pool(x: Tensor, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """Apply a checked `Blur` to ``(N, C, *spatial)`` or ``(C, *spatial)``, by the quickest way that fits ``x``.

    ``kernel`` is ``blur.kernel()`` where the caller keeps one on the device of ``x``.
    """
    check_map(x, blur)
    if x.dim() == 1 + len(blur.stride):
        return blur_pool(x.unsqueeze(0), blur, kernel).squeeze(0)
    if torch.compiler.is_compiling() or blur.is_subsampling or _convolves_slowly(x):
        return _by_slices(x, blur)
    with own_precision(x):
        if _takes_borders(x):
            return bordered_blur(blur, tuple(x.shape[2:]), x.shape[1], x.dtype, layout_of(x))(x)
        return _by_convolution(x, blur, kernel)


def own_precision(x: Tensor) -> contextlib.AbstractContextManager[None]:
    """Keeps autocast away: a blur's result has its input's dtype."""
    # Asking is quicker than entering a context, and autocast does not know meta tensors.
    if x.is_meta or not torch._C._is_any_autocast_enabled():
        return _AS_IT_IS
    return torch.autocast(x.device.type, enabled=False)


def check_map(x: Tensor, blur: Blur) -> None:
    """Raises a ValueError or TypeError if ``x`` is no map that ``blur`` can take."""
    ndim = len(blur.stride)
    if x.dim() not in (ndim + 1, ndim + 2) or 0 in x.shape[-ndim:]:
        raise ValueError(
            f"expected a map of {ndim} non-empty spatial axes, (N, C, ...) or (C, ...), got shape {tuple(x.shape)}"
        )
    if not x.is_floating_point():
        raise TypeError(f"expected a floating-point map, got {x.dtype}: convert it first, for example x.float()")


# The ways below give the same values (tests/test_functional.py); `blur_pool` alone chooses between them.


def _by_convolution(x: Tensor, blur: Blur, kernel: Tensor | None) -> Tensor:
    """Pad, then one strided depthwise convolution: the plain formula."""
    convolve = CONVOLUTIONS[len(blur.stride) - 1]
    return convolve(padded(x, blur), blur.weight(x, kernel), None, blur.stride, 0, 1, x.shape[1])


def _by_slices(x: Tensor, blur: Blur) -> Tensor:
    """Pad, then sum weighted, strided slices along each axis: a compiler fuses these with their neighbours."""
    dtype, memory_format = x.dtype, layout_of(x)
    size = blur.out_size(x.shape[2:])
    x = padded(x, blur)
    for axis, (taps, stride, out) in enumerate(zip(blur.taps, blur.stride, size, strict=True), start=2):
        span = (out - 1) * stride + 1
        terms = [x[(slice(None),) * axis + (slice(i, i + span, stride),)] for i in range(len(taps))]
        x = terms[0] if len(taps) == 1 else _weighted_sum(terms, taps)
    return x.to(dtype).contiguous(memory_format=memory_format)  # autocast on a CPU pads in float32


def _weighted_sum(terms: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = terms[0] * weights[0]
    for term, weight in zip(terms[1:], weights[1:], strict=True):
        total = total + term * weight
    return total


def _convolves_slowly(x: Tensor) -> bool:
    """On a CPU what oneDNN does not do, torch convolves one channel after the other."""
    slow = not has_onednn() if x.dtype == torch.float32 else x.dtype == torch.float64
    return slow and x.is_cpu


def _takes_borders(x: Tensor) -> bool:
    """Where a convolution without a padded copy beats the plain formula (scripts/benchmark.py, "layers")."""
    size = x.numel() * x.element_size()
    if size <= _SMALL_WITH_GRAD[torch.contiguous_format] or not is_onednn_map(x):
        return False
    return size > (_SMALL_WITH_GRAD.get(layout_of(x), _SMALL) if needs_grad(x) else _SMALL)
