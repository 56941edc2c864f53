"""The blur itself: one formula, and the quickest way to compute it for the tensor at hand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .filters import Blur

# Above this many rows or columns the banded matrices of `_by_matmul` do more arithmetic than they save; where
# channels are contiguous the depthwise convolution is vectorised and wins earlier (scripts/benchmark.py, "layers").
_MATMUL_MAX = 256
_MATMUL_MAX_CHANNELS_LAST = 28


def blur_pool(x: Tensor, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """Apply a checked `Blur` to ``(N, C, *spatial)`` or ``(C, *spatial)``, by the quickest way that fits ``x``.

    ``kernel`` is ``blur.kernel()`` where the caller keeps one on the device of ``x``.
    """
    _check_input(x, blur)
    if x.dim() == 1 + len(blur.stride):
        return blur_pool(x.unsqueeze(0), blur, kernel).squeeze(0)
    # In this order: behind a cached property in an `or`, torch 2.15's compiler takes is_compiling() for false.
    if torch.compiler.is_compiling() or blur.is_subsampling:
        return _by_slices(x, blur)
    if x.is_meta:  # which autocast does not know
        return _by_convolution(x, blur, blur.kernel() if kernel is None else kernel)
    with torch.autocast(x.device.type, enabled=False):  # a blur keeps its input's dtype
        if _matmul_pays(x):
            return _by_matmul(x, blur)
        return _by_convolution(x, blur, kernel)


def _check_input(x: Tensor, blur: Blur) -> None:
    ndim = len(blur.stride)
    if x.dim() not in (ndim + 1, ndim + 2) or 0 in x.shape[-ndim:]:
        raise ValueError(
            f"expected a map of {ndim} non-empty spatial axes, (N, C, ...) or (C, ...), got shape {tuple(x.shape)}"
        )
    if not x.is_floating_point():
        raise TypeError(f"expected a floating-point map, got {x.dtype}: convert it first, for example x.float()")


def _memory_format(x: Tensor) -> torch.memory_format:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    channels_last = formats.get(x.dim())
    if channels_last and x.is_contiguous(memory_format=channels_last) and not x.is_contiguous():
        return channels_last
    return torch.contiguous_format


# The ways below give the same values (tests/test_functional.py); `blur_pool` alone chooses between them.


def _by_convolution(x: Tensor, blur: Blur, kernel: Tensor | None) -> Tensor:
    """Pad, then one strided depthwise convolution: the plain formula."""
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(blur.stride) - 1]
    return convolve(_pad(x, blur), blur.weight(x, kernel), stride=blur.stride, groups=x.shape[1])


def _by_slices(x: Tensor, blur: Blur) -> Tensor:
    """Pad, then sum weighted, strided slices along each axis: a compiler fuses these with their neighbours."""
    memory_format = _memory_format(x)
    size = blur.out_size(x.shape[2:])
    x = _pad(x, blur)
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


def _by_matmul(x: Tensor, blur: Blur) -> Tensor:
    """Multiply each axis by a banded matrix that holds the taps, the stride and the folded-back borders.

    There is no padded copy, the backward pass is the transposed product, and nothing but the matrices is saved for it.
    """
    channels_last = _memory_format(x) != torch.contiguous_format
    y = x.movedim(1, -1) if channels_last else x
    first = 1 if channels_last else 2
    for axis, n in enumerate(x.shape[2:], start=first):
        a = axis - first
        band = _band(n, blur.taps[a], blur.stride[a], blur.padding[a], blur.mode, x.dtype)
        lead, tail = y.shape[:axis], y.shape[axis + 1 :]
        y = y.reshape(-1, n, tail.numel()) if tail else y.reshape(-1, n)
        y = (torch.matmul(band, y) if tail else torch.matmul(y, band.T)).view(*lead, band.shape[0], *tail)
    return y.movedim(-1, 1) if channels_last else y


def is_plain_cpu(x: Tensor) -> bool:
    """True for an ordinary tensor on the CPU: not compiled, traced, counted or vmapped, not a fake tensor."""
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return False
    watched = torch._C._get_tracing_state() or torch._C._len_torch_dispatch_stack()
    ordinary = type(x) in (Tensor, torch.nn.Parameter) and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    return ordinary and not watched


def _matmul_pays(x: Tensor) -> bool:
    # In half precision the result would be rounded between the axes.
    if not is_plain_cpu(x) or x.dtype not in (torch.float32, torch.float64):
        return False
    limit = _MATMUL_MAX if _memory_format(x) == torch.contiguous_format else _MATMUL_MAX_CHANNELS_LAST
    return max(x.shape[2:]) <= limit


@lru_cache(maxsize=256)
def _band(n: int, taps: tuple[float, ...], stride: int, pad: tuple[int, int], mode: str, dtype: torch.dtype) -> Tensor:
    """The ``(out, n)`` matrix that pads, filters and subsamples an axis of ``n`` values."""
    with (
        torch.inference_mode(False),
        torch.no_grad(),
    ):  # an inference tensor could not be used in training later
        source = _padded_indices(n, pad, mode).unfold(0, len(taps), stride)
        weight = torch.tensor(taps, dtype=dtype, device="cpu").expand(source.shape)
        band = torch.zeros(source.shape[0], n + 1, dtype=dtype, device="cpu")
        return band.scatter_add_(1, source, weight)[:, :n].contiguous()  # column n gathers the zero padding


def _pad(x: Tensor, blur: Blur) -> Tensor:
    if blur.mode == "reflect" and any(max(p) >= n for n, p in zip(x.shape[2:], blur.padding, strict=True)):
        for axis, pad in enumerate(blur.padding, start=2):  # F.pad refuses to reflect more than once
            x = x.index_select(axis, _padded_indices(x.shape[axis], pad, blur.mode).to(x.device))
        return x
    flat = [p for pad in reversed(blur.padding) for p in pad]
    return F.pad(x, flat, mode=blur.mode) if any(flat) else x


def _padded_indices(n: int, pad: tuple[int, int], mode: str) -> Tensor:
    """For each position of the padded axis the position it copies; ``n`` stands for a zero."""
    i = torch.arange(-pad[0], n + pad[1], device="cpu")
    if mode == "constant":
        return torch.where((i < 0) | (i >= n), n, i)
    if mode == "replicate":
        return i.clamp(0, n - 1)
    period = max(2 * (n - 1), 1)
    i = i % period
    return torch.minimum(i, period - i) if n > 1 else i
