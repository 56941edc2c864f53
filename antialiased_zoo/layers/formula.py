"""The plain formulas: pad, then a strided convolution or a weighted sum of strided slices; and the dense maximum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .eligibility import layout_of
from .filters import Blur
from .padding import padded
from .torch_functions import torch_function
from .torch_internals import is_jit_tracing
from .window import Window


def convolved(x: Tensor, blur: Blur, kernel: Tensor | None) -> Tensor:
    """Pad, then one strided depthwise convolution."""
    convolve = torch_function("conv{}d", len(blur.stride))
    return convolve(padded(x, blur), blur.weight(x, kernel), None, blur.stride, 0, 1, x.shape[1])


def sliced(x: Tensor, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """Pad, then sum weighted, strided slices along each axis."""
    memory_format = layout_of(x)
    size = blur.out_size(x.shape[2:])
    x = padded(x, blur)
    for axis, (taps, stride, out) in enumerate(zip(blur.taps, blur.stride, size, strict=True), start=2):
        span = (out - 1) * stride + 1
        terms = [x[(slice(None),) * axis + (slice(i, i + span, stride),)] for i in range(len(taps))]
        x = terms[0] if len(taps) == 1 else _weighted_sum(terms, taps)
    return x.contiguous(memory_format=memory_format)


def dense_maximum(x: Tensor, window: Window, blur: Blur) -> Tensor:
    """Max pooling at stride 1, extended as ``ceil_mode`` needs; padding is never the maximum."""
    missing = window.missing(x.shape[2:], blur.stride)
    for_all_sizes = torch.compiler.is_compiling() or is_jit_tracing()
    if window.ceil_mode and (for_all_sizes or any(missing)):
        x = F.pad(x, [p for more in reversed(missing) for p in (0, more)], value=float("-inf"))
    pool = torch_function("max_pool{}d", len(window.size))
    return pool(x, window.size, 1, window.padding, window.dilation)


def _weighted_sum(terms: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = terms[0] * weights[0]
    for term, weight in zip(terms[1:], weights[1:], strict=True):
        total = total + term * weight
    return total
