"""Blur and subsample, and max-then-blur, as functions; `layers` holds the modules on top of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .filters import Blur, binomial_taps

# Above this many rows or columns the banded matrices of `_by_matmul` do more arithmetic than they save; where
# channels are contiguous the depthwise convolution is vectorised and wins earlier (scripts/benchmark.py, "layers").
_MATMUL_MAX = 256
_MATMUL_MAX_CHANNELS_LAST = 56


def blur_pool2d(
    x: Tensor,
    filt_size: int = 4,
    stride: int | Sequence[int] = 2,
    pad_type: str = "reflect",
    pad_off: int = 0,
) -> Tensor:
    """Low-pass filter each channel with a binomial kernel, then subsample.

    Args:
        x: ``(N, C, H, W)`` or ``(C, H, W)``, any floating dtype, any memory format.
        filt_size: Length k of the binomial taps, 1 to 7; 1 subsamples only.
        stride: Subsampling factor. A pair gives one for each axis, and an axis with stride 1 is then not blurred.
        pad_type: "reflect" ("refl"), "replicate" ("repl") or "zero". A map too small to reflect in is reflected
            repeatedly, as ``numpy.pad`` does, so that any size down to 1x1 works.
        pad_off: Pixels of padding on every side beyond the floor((k-1)/2) before and ceil((k-1)/2) after.

    Returns:
        ``(N, C, ceil(H / stride), ceil(W / stride))`` (for ``pad_off=0``), dtype, device and memory format of ``x``.

    Raises:
        ValueError: If an argument or the shape of ``x`` is out of range.
        TypeError: If ``x`` is not floating point.

    Source: Zhang, ICML 2019, section 3.2 and the published layer.

    Example:
        >>> blur_pool2d(torch.ones(1, 8, 5, 6), filt_size=3).shape
        torch.Size([1, 8, 3, 3])
    """
    return blur_pool(x, Blur.make(binomial_taps(filt_size), stride, pad_type, pad_off, ndim=2))


def max_blur_pool2d(
    x: Tensor,
    kernel_size: int | Sequence[int],
    filt_size: int = 4,
    stride: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    pad_type: str = "reflect",
) -> Tensor:
    """Max pooling evaluated densely, then blurred and subsampled: the paper's MaxBlurPool.

    The result has the spatial size of ``F.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode)``, and
    equals it for ``filt_size=1``.

    Args:
        x: ``(N, C, H, W)`` or ``(C, H, W)``, floating point.
        kernel_size: Window of the maximum, an int or a pair.
        filt_size: Length of the binomial taps, 1 to 7.
        stride: Subsampling factor, an int or a pair (an axis with stride 1 is then not blurred).
        padding: As in ``F.max_pool2d``.
        dilation: As in ``F.max_pool2d``.
        ceil_mode: As in ``F.max_pool2d``.
        pad_type: Padding of the blur, as in `blur_pool2d`.

    Returns:
        The pooled map, ``(N, C, H', W')`` or ``(C, H', W')``.

    Raises:
        ValueError: If an argument is out of range.

    Source: Zhang, ICML 2019, section 3.2, equation (3).

    Example:
        >>> max_blur_pool2d(torch.ones(1, 8, 6, 6), kernel_size=2).shape
        torch.Size([1, 8, 3, 3])
    """
    blur = Blur.make(binomial_taps(filt_size), stride, pad_type, 0, ndim=2)
    return max_blur_pool(x, _pair(kernel_size), _pair(padding), _pair(dilation), ceil_mode, blur)


def blur_pool(x: Tensor, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """Apply a checked `Blur` to ``(N, C, *spatial)`` or ``(C, *spatial)``, by the quickest way that fits ``x``.

    ``kernel`` is ``blur.kernel()`` where the caller keeps one on the device of ``x``.
    """
    _check_input(x, blur)
    if x.dim() == 1 + len(blur.stride):
        return blur_pool(x.unsqueeze(0), blur, kernel).squeeze(0)
    if torch.compiler.is_compiling() or blur.is_subsampling:
        return _by_slices(x, blur)
    with torch.autocast(x.device.type, enabled=False):  # a blur keeps its input's dtype
        if _matmul_pays(x):
            return _by_matmul(x, blur)
        return _by_convolution(x, blur, blur.kernel() if kernel is None else kernel)


def max_blur_pool(
    x: Tensor,
    window: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil_mode: bool,
    blur: Blur,
    kernel: Tensor | None = None,
) -> Tensor:
    """Dense maximum over ``window``, then a checked `Blur`; 2-D."""
    if ceil_mode:
        x = _extend_for_ceil_mode(x, window, blur.stride, padding, dilation)
    dense = F.max_pool2d(x, window, stride=1, padding=padding, dilation=dilation)
    return blur_pool(dense, blur, kernel)


def _pair(value: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value, value)


def _check_input(x: Tensor, blur: Blur) -> None:
    ndim = len(blur.stride)
    if x.dim() not in (ndim + 1, ndim + 2) or 0 in x.shape[-ndim:]:
        raise ValueError(
            f"expected a map of {ndim} non-empty spatial axes, (N, C, ...) or (C, ...), got shape {tuple(x.shape)}"
        )
    if not x.is_floating_point():
        raise TypeError(f"expected a floating-point map, got {x.dtype}: convert it first, for example x.float()")


def _extend_for_ceil_mode(
    x: Tensor,
    window: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """Append -inf so that the dense maximum reaches the window that ``ceil_mode`` adds at the end."""
    pads: list[int] = []
    for n, k, s, p, d in zip(x.shape[-2:], window, stride, padding, dilation, strict=True):
        dense = n + 2 * p - d * (k - 1)
        out = -(-(dense - 1) // s) + 1
        if (out - 1) * s >= n + p:  # the window would start past the input: max_pool2d leaves it out
            out -= 1
        pads = [0, max(0, (out - 1) * s + 1 - dense), *pads]
    return F.pad(x, pads, value=-torch.inf) if any(pads) else x


def _memory_format(x: Tensor) -> torch.memory_format:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    channels_last = formats.get(x.dim())
    if channels_last and x.is_contiguous(memory_format=channels_last) and not x.is_contiguous():
        return channels_last
    return torch.contiguous_format


# The ways below give the same values (tests/test_functional.py); `blur_pool` alone chooses between them.


def _by_convolution(x: Tensor, blur: Blur, kernel: Tensor) -> Tensor:
    """Pad, then one strided depthwise convolution: the plain formula."""
    channels = x.shape[1]
    weight = kernel.to(x).expand(channels, 1, *kernel.shape[2:])
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(blur.stride) - 1]
    return convolve(_pad(x, blur), weight, stride=blur.stride, groups=channels)


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


def _matmul_pays(x: Tensor) -> bool:
    # Half precision would round between the axes; traced, fake and functorch tensors must not meet a cached matrix.
    plain = type(x) in (Tensor, torch.nn.Parameter) and not torch._C._get_tracing_state()
    limit = _MATMUL_MAX if _memory_format(x) == torch.contiguous_format else _MATMUL_MAX_CHANNELS_LAST
    return plain and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and max(x.shape[2:]) <= limit


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
