"""Blur and subsample, and max-then-blur, as functions; `layers` holds the modules on top of the same core."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .filters import Blur, binomial_taps
from .pooling import Window, max_blur_pool
from .resample import blur_pool


def blur_pool1d(x: Tensor, filt_size: int = 4, stride: int = 2, pad_type: str = "reflect", pad_off: int = 0) -> Tensor:
    """`blur_pool2d` for ``(N, C, L)`` or ``(C, L)``: audio and other sequences.

    Example:
        >>> import torch
        >>> blur_pool1d(torch.ones(1, 8, 9)).shape
        torch.Size([1, 8, 5])
    """
    return blur_pool(x, Blur.make(binomial_taps(filt_size), stride, pad_type, pad_off, ndim=1))


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
        >>> import torch
        >>> blur_pool2d(torch.ones(1, 8, 5, 6), filt_size=3).shape
        torch.Size([1, 8, 3, 3])
    """
    return blur_pool(x, Blur.make(binomial_taps(filt_size), stride, pad_type, pad_off, ndim=2))


def blur_pool3d(
    x: Tensor, filt_size: int = 4, stride: int | Sequence[int] = 2, pad_type: str = "reflect", pad_off: int = 0
) -> Tensor:
    """`blur_pool2d` for ``(N, C, D, H, W)`` or ``(C, D, H, W)``: volumes and video.

    Example:
        >>> import torch
        >>> blur_pool3d(torch.ones(1, 8, 5, 6, 7), stride=(1, 2, 2)).shape
        torch.Size([1, 8, 5, 3, 4])
    """
    return blur_pool(x, Blur.make(binomial_taps(filt_size), stride, pad_type, pad_off, ndim=3))


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
        >>> import torch
        >>> max_blur_pool2d(torch.ones(1, 8, 6, 6), kernel_size=2).shape
        torch.Size([1, 8, 3, 3])
    """
    blur = Blur.make(binomial_taps(filt_size), stride, pad_type, 0, ndim=2)
    return max_blur_pool(x, Window.make(kernel_size, padding, dilation, ceil_mode, ndim=2), blur)
