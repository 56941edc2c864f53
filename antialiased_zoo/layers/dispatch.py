"""The blur itself: one formula, and the quickest way to compute it for the tensor at hand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from . import linear_operator as linear
from .cpu.bordered_blur import bordered_blur
from .cpu.padded_blur import padded_blur
from .eligibility import has_onednn, is_onednn_map, layout_of, needs_grad
from .filters import CONVOLUTIONS, Blur
from .linear_operator import LinearMap
from .padding import padded

# By dimensions and layout, from how many MiB on adding the borders' part costs less than a padded copy, and in such a
# copy's gradient adding the borders in place costs less than torch's way (2-D: scripts/benchmark.py, "layers").
_PLAIN, _LAST, _LAST_3D = torch.contiguous_format, torch.channels_last, torch.channels_last_3d
_BORDERED = {(3, _PLAIN): 0.5, (4, _PLAIN): 30, (4, _LAST): 16, (5, _PLAIN): 2, (5, _LAST_3D): 16}
_PADDED_GRADIENT = {(4, _PLAIN): 1, (4, _LAST): 5, (5, _LAST_3D): 5}
_LEAST = {dims: min(least for (d, _), least in _BORDERED.items() if d == dims) for dims in (3, 4, 5)}
_LEAST_WITH_GRAD = min((*_BORDERED.values(), *_PADDED_GRADIENT.values()))


def blur_pool(x: Tensor, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """Apply a checked `Blur` to ``(N, C, *spatial)`` or ``(C, *spatial)``, by the quickest way that fits ``x``.

    ``kernel`` is ``blur.kernel()`` where the caller keeps one on the device of ``x``.
    """
    check_map(x, blur)
    if x.dim() == 1 + len(blur.stride):
        return blur_pool(x.unsqueeze(0), blur, kernel).squeeze(0)
    if torch.compiler.is_compiling() or blur.is_subsampling or _convolves_slowly(x):
        return _by_slices(x, blur)
    if torch._C._is_any_autocast_enabled():  # asked here too: a small blur notices an empty context
        with own_precision(x):
            return _at_its_precision(x, blur, kernel)
    return _at_its_precision(x, blur, kernel)


def own_precision(x: Tensor) -> contextlib.AbstractContextManager[None]:
    """Keeps autocast away: a blur's result has its input's dtype."""
    if x.is_meta or not torch._C._is_any_autocast_enabled():  # autocast does not know meta tensors
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def check_map(x: Tensor, blur: Blur) -> None:
    """Raises a ValueError or TypeError if ``x`` is no map that ``blur`` can take."""
    shape, ndim = x.shape, len(blur.stride)
    if not ndim < len(shape) <= ndim + 2 or 0 in shape[-ndim:]:
        raise ValueError(
            f"expected a map of {ndim} non-empty spatial axes, (N, C, ...) or (C, ...), got shape {tuple(shape)}"
        )
    if not x.is_floating_point():
        raise TypeError(f"expected a floating-point map, got {x.dtype}: convert it first, for example x.float()")


def _at_its_precision(x: Tensor, blur: Blur, kernel: Tensor | None) -> Tensor:
    if quicker := _quicker(x):
        return linear.apply(quicker(blur, tuple(x.shape[2:]), x.shape[1], x.dtype, layout_of(x)), x)
    return _by_convolution(x, blur, kernel)


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
    dtype = x.dtype
    slow = not has_onednn() if dtype is torch.float32 else dtype is torch.float64
    return slow and x.is_cpu


def _quicker(x: Tensor) -> Callable[[Blur, tuple[int, ...], int, torch.dtype, torch.memory_format], LinearMap] | None:
    """What makes the blur, where that is quicker than the plain formula under autograd."""
    mebibytes = x.numel() * x.element_size() / 2**20
    with_grad = needs_grad(x)
    least = _LEAST_WITH_GRAD if with_grad else _LEAST[x.dim()]
    if mebibytes <= least or not is_onednn_map(x):  # in this order: a small blur notices every question
        return None
    kind = (x.dim(), layout_of(x))
    if mebibytes > _BORDERED[kind]:
        return bordered_blur
    return padded_blur if with_grad and mebibytes > _PADDED_GRADIENT.get(kind, mebibytes) else None
