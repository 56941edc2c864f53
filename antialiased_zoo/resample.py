"""The blur itself: one formula, and the quickest way to compute it for the tensor at hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from .axes import AxisMax, axis_blur, padded_indices
from .chunks import Pipeline
from .filters import Blur

# Up to here the plain formula is as quick. In channels-last: rows or columns, and bytes where a maximum comes first.
_SMALL_CHANNELS_LAST = 56
_SMALL_POOLED = 1 << 20
# In NCHW: bytes.
_SMALL = 1 << 24


def blur_pool(x: Tensor, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """Apply a checked `Blur` to ``(N, C, *spatial)`` or ``(C, *spatial)``, by the quickest way that fits ``x``.

    ``kernel`` is ``blur.kernel()`` where the caller keeps one on the device of ``x``.
    """
    check_map(x, blur)
    if x.dim() == 1 + len(blur.stride):
        return blur_pool(x.unsqueeze(0), blur, kernel).squeeze(0)
    # In this order: behind a cached property in an `or`, torch 2.15's compiler takes is_compiling() for false.
    if torch.compiler.is_compiling() or blur.is_subsampling:
        return _by_slices(x, blur)
    if takes_chunks(x):
        return in_chunks(x, blur)
    if x.is_meta:  # which autocast does not know
        return _by_convolution(x, blur, blur.kernel() if kernel is None else kernel)
    with torch.autocast(x.device.type, enabled=False):  # a blur keeps its input's dtype
        return _by_convolution(x, blur, kernel)


def check_map(x: Tensor, blur: Blur) -> None:
    """Raises a ValueError or TypeError if ``x`` is no map that ``blur`` can take."""
    ndim = len(blur.stride)
    if x.dim() not in (ndim + 1, ndim + 2) or 0 in x.shape[-ndim:]:
        raise ValueError(
            f"expected a map of {ndim} non-empty spatial axes, (N, C, ...) or (C, ...), got shape {tuple(x.shape)}"
        )
    if not x.is_floating_point():
        raise TypeError(f"expected a floating-point map, got {x.dtype}: convert it first, for example x.float()")


def layout_of(x: Tensor) -> torch.memory_format:
    """Channels-last if ``x`` is in that layout and in no other."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    channels_last = formats.get(x.dim())
    if channels_last and x.is_contiguous(memory_format=channels_last) and not x.is_contiguous():
        return channels_last
    return torch.contiguous_format


# The ways below give the same values (tests/test_functional.py); `blur_pool` alone chooses between them.


def _by_convolution(x: Tensor, blur: Blur, kernel: Tensor | None) -> Tensor:
    """Pad, then one strided depthwise convolution: the plain formula."""
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(blur.stride) - 1]
    return convolve(padded(x, blur), blur.weight(x, kernel), stride=blur.stride, groups=x.shape[1])


def _by_slices(x: Tensor, blur: Blur) -> Tensor:
    """Pad, then sum weighted, strided slices along each axis: a compiler fuses these with their neighbours."""
    memory_format = layout_of(x)
    size = blur.out_size(x.shape[2:])
    x = padded(x, blur)
    for axis, (taps, stride, out) in enumerate(zip(blur.taps, blur.stride, size, strict=True), start=2):
        span = (out - 1) * stride + 1
        terms = [x[(slice(None),) * axis + (slice(i, i + span, stride),)] for i in range(len(taps))]
        x = terms[0] if len(taps) == 1 else _weighted_sum(terms, taps)
    return x.contiguous(memory_format=memory_format)


def _weighted_sum(terms: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = terms[0] * weights[0]
    for term, weight in zip(terms[1:], weights[1:], strict=True):
        total = total + term * weight
    return total


def in_chunks(x: Tensor, blur: Blur, maxima: tuple[AxisMax, ...] = ()) -> Tensor:
    """Blur one axis after the other, some images at a time, and write the backward pass out as well."""
    sizes = list(x.shape[2:])
    for maximum in maxima:
        sizes[maximum.axis - 2] = maximum.out
    axes = enumerate(zip(sizes, blur.taps, blur.stride, blur.padding, strict=True), start=2)
    blurs = tuple(
        axis_blur(axis, n, taps, stride, pad, blur.mode)
        for axis, (n, taps, stride, pad) in axes
        if len(taps) > 1 or stride > 1 or any(pad)
    )
    return Pipeline(maxima, blurs, layout_of(x))(x)


def takes_chunks(x: Tensor, pooled: bool = False) -> bool:
    """Where `in_chunks` beats the plain formula (scripts/benchmark.py, "layers"); ``pooled``: with a maximum first.

    In channels-last torch is quick on small maps. Elsewhere its max pool writes 64-bit indices, its reflect padding
    is slow backwards, and each temporary of many megabytes is fresh memory.
    """
    if not is_plain_cpu(x):
        return False
    needs_grad = x.requires_grad and torch.is_grad_enabled()
    size = x.numel() * x.element_size()
    if layout_of(x) != torch.contiguous_format:
        return max(x.shape[2:]) > _SMALL_CHANNELS_LAST or (pooled and not needs_grad and size > _SMALL_POOLED)
    return needs_grad or pooled or size > _SMALL


def is_plain_cpu(x: Tensor) -> bool:
    """True for an ordinary tensor on the CPU, in a precision that allows rounding between the axes.

    Not ordinary is what is compiled, traced, counted, fake, or transformed by `torch.func` or for forward derivatives.
    """
    if torch.compiler.is_compiling() or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return False
    watched = torch._C._get_tracing_state() or torch._C._len_torch_dispatch_stack()
    transformed = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    return type(x) in (Tensor, torch.nn.Parameter) and not watched and not transformed


def padded(x: Tensor, blur: Blur) -> Tensor:
    """``x`` with the blur's padding; a map too small to reflect in is reflected repeatedly."""
    if blur.mode == "reflect" and any(max(p) >= n for n, p in zip(x.shape[2:], blur.padding, strict=True)):
        for axis, pad in enumerate(blur.padding, start=2):  # F.pad refuses to reflect more than once
            x = x.index_select(axis, padded_indices(x.shape[axis], pad, blur.mode).to(x.device))
        return x
    flat = [p for pad in reversed(blur.padding) for p in pad]
    return F.pad(x, flat, mode=blur.mode) if any(flat) else x
