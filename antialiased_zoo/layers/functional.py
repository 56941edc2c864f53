"""The layers as functions: blur pooling, max and average pooling with a blur, upsampling with a blur."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .dispatch import blur_pool, max_blur_pool
from .filters import Blur, FilterSize
from .pooling import avg_blur_pool
from .upsampling import Interpolation, blur_upsample
from .window import Window


def blur_pool1d(
    x: Tensor,
    filt_size: FilterSize = 4,
    stride: int | Sequence[int] = 2,
    pad_type: str = "reflect",
    pad_off: int = 0,
    wide: bool = False,
    dense: bool = False,
) -> Tensor:
    """`blur_pool2d` for ``(N, C, L)`` or ``(C, L)``: audio and other sequences.

    Example:
        >>> import torch
        >>> blur_pool1d(torch.ones(1, 8, 9)).shape
        torch.Size([1, 8, 5])
    """
    return blur_pool(x, Blur.make(filt_size, stride, pad_type, pad_off, 1, wide, dense))


def blur_pool2d(
    x: Tensor,
    filt_size: FilterSize = 4,
    stride: int | Sequence[int] = 2,
    pad_type: str = "reflect",
    pad_off: int = 0,
    wide: bool = False,
    dense: bool = False,
) -> Tensor:
    """Low-pass filter each channel, then subsample.

    Args:
        x: ``(N, C, H, W)`` or ``(C, H, W)``, any floating dtype, any memory format.
        filt_size: Length k of the binomial taps, 1 to 7 (1 subsamples only), or custom taps: a 1-D
            sequence of any length k, normalised to sum to one.
        stride: Subsampling factor. A pair gives one for each axis, and an axis with stride 1 is
            then not blurred.
        pad_type: "reflect" ("refl"), "replicate" ("repl") or "zero". A map smaller than the
            padding is reflected repeatedly, as in ``numpy.pad``, so that any size down to 1x1 works.
        pad_off: Extra pixels of padding on every side, added to the floor((k-1)/2) before and
            ceil((k-1)/2) after.
        wide: Widen binomial taps if the stride is above 2 (`antialiased_zoo.wide_taps`). The
            published weights do not use it.
        dense: Blur as for ``stride``, but keep every pixel: for a map that another operation
            subsamples or has upsampled.

    Returns:
        ``(N, C, ceil(H / stride), ceil(W / stride))`` (for ``pad_off=0``; with ``dense`` the size
        of ``x``), dtype, device and memory format of ``x``.

    Raises:
        ValueError: If an argument or the shape of ``x`` is out of range.
        TypeError: If ``x`` is not floating point.

    Source: Zhang, ICML 2019, section 3.2 and the published layer.

    Example:
        >>> import torch
        >>> blur_pool2d(torch.ones(1, 8, 5, 6), filt_size=3).shape
        torch.Size([1, 8, 3, 3])
        >>> blur_pool2d(torch.ones(1, 8, 16, 16), filt_size=[1, 4, 6, 4, 1], stride=4).shape
        torch.Size([1, 8, 4, 4])
    """
    return blur_pool(x, Blur.make(filt_size, stride, pad_type, pad_off, 2, wide, dense))


def blur_pool3d(
    x: Tensor,
    filt_size: FilterSize = 4,
    stride: int | Sequence[int] = 2,
    pad_type: str = "reflect",
    pad_off: int = 0,
    wide: bool = False,
    dense: bool = False,
) -> Tensor:
    """`blur_pool2d` for ``(N, C, D, H, W)`` or ``(C, D, H, W)``: volumes and video.

    Example:
        >>> import torch
        >>> blur_pool3d(torch.ones(1, 8, 5, 6, 7), stride=(1, 2, 2)).shape
        torch.Size([1, 8, 5, 3, 4])
    """
    return blur_pool(x, Blur.make(filt_size, stride, pad_type, pad_off, 3, wide, dense))


def max_blur_pool1d(
    x: Tensor,
    kernel_size: int | Sequence[int],
    filt_size: FilterSize = 4,
    stride: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    pad_type: str = "reflect",
    wide: bool = False,
) -> Tensor:
    """`max_blur_pool2d` for ``(N, C, L)`` or ``(C, L)``.

    Example:
        >>> import torch
        >>> max_blur_pool1d(torch.ones(1, 8, 6), kernel_size=2).shape
        torch.Size([1, 8, 3])
    """
    window = Window.make(kernel_size, padding, dilation, ceil_mode, ndim=1)
    return max_blur_pool(x, window, Blur.make(filt_size, stride, pad_type, 0, 1, wide))


def max_blur_pool2d(
    x: Tensor,
    kernel_size: int | Sequence[int],
    filt_size: FilterSize = 4,
    stride: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    pad_type: str = "reflect",
    wide: bool = False,
) -> Tensor:
    """Max pooling evaluated densely, then blurred and subsampled: the paper's MaxBlurPool.

    The result has the spatial size of ``F.max_pool2d(x, kernel_size, stride, padding, dilation,
    ceil_mode)``, and equals it for ``filt_size=1``.

    Args:
        x: ``(N, C, H, W)`` or ``(C, H, W)``, floating point.
        kernel_size: Window of the maximum, an int or a pair.
        filt_size: As in `blur_pool2d`.
        stride: Subsampling factor, an int or a pair (an axis with stride 1 is then not blurred).
        padding: As in ``F.max_pool2d``.
        dilation: As in ``F.max_pool2d``.
        ceil_mode: As in ``F.max_pool2d``.
        pad_type: Padding of the blur, as in `blur_pool2d`.
        wide: As in `blur_pool2d`.

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
    window = Window.make(kernel_size, padding, dilation, ceil_mode, ndim=2)
    return max_blur_pool(x, window, Blur.make(filt_size, stride, pad_type, 0, 2, wide))


def max_blur_pool3d(
    x: Tensor,
    kernel_size: int | Sequence[int],
    filt_size: FilterSize = 4,
    stride: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    pad_type: str = "reflect",
    wide: bool = False,
) -> Tensor:
    """`max_blur_pool2d` for ``(N, C, D, H, W)`` or ``(C, D, H, W)``.

    Example:
        >>> import torch
        >>> max_blur_pool3d(torch.ones(1, 8, 6, 6, 6), kernel_size=2, stride=(1, 2, 2)).shape
        torch.Size([1, 8, 5, 3, 3])
    """
    window = Window.make(kernel_size, padding, dilation, ceil_mode, ndim=3)
    return max_blur_pool(x, window, Blur.make(filt_size, stride, pad_type, 0, 3, wide))


def avg_blur_pool1d(
    x: Tensor,
    kernel_size: int | Sequence[int],
    filt_size: FilterSize = 4,
    stride: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    pad_type: str = "reflect",
    wide: bool = False,
) -> Tensor:
    """`avg_blur_pool2d` for ``(N, C, L)`` or ``(C, L)``.

    Example:
        >>> import torch
        >>> avg_blur_pool1d(torch.ones(1, 8, 9), kernel_size=2).shape
        torch.Size([1, 8, 4])
    """
    window = Window.make(kernel_size, padding, 1, ceil_mode, ndim=1)
    return avg_blur_pool(x, window, Blur.make(filt_size, stride, pad_type, 0, 1, wide))


def avg_blur_pool2d(
    x: Tensor,
    kernel_size: int | Sequence[int],
    filt_size: FilterSize = 4,
    stride: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    pad_type: str = "reflect",
    wide: bool = False,
) -> Tensor:
    """A blur that replaces an average pool, with the same window centres and output size.

    If the centres cannot coincide (one length is even, the other odd), the blur is half a pixel early.

    Args:
        x: ``(N, C, H, W)`` or ``(C, H, W)``, floating point.
        kernel_size: Window of the replaced average pool, an int or a pair; it sets the centres.
        filt_size: As in `blur_pool2d`.
        stride: Subsampling factor, an int or a pair (an axis with stride 1 is then not blurred).
        padding: As in ``F.avg_pool2d``.
        ceil_mode: As in ``F.avg_pool2d``.
        pad_type: Padding of the blur, as in `blur_pool2d`.
        wide: As in `blur_pool2d`.

    Returns:
        The map, of the size of ``F.avg_pool2d(x, kernel_size, stride, padding, ceil_mode)``.

    Raises:
        ValueError: If an argument is out of range.

    Source: Zhang, ICML 2019, section 3.2: average pooling becomes blurred downsampling.

    Example:
        >>> import torch
        >>> avg_blur_pool2d(torch.ones(1, 8, 9, 9), kernel_size=2).shape
        torch.Size([1, 8, 4, 4])
    """
    window = Window.make(kernel_size, padding, 1, ceil_mode, ndim=2)
    return avg_blur_pool(x, window, Blur.make(filt_size, stride, pad_type, 0, 2, wide))


def avg_blur_pool3d(
    x: Tensor,
    kernel_size: int | Sequence[int],
    filt_size: FilterSize = 4,
    stride: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    pad_type: str = "reflect",
    wide: bool = False,
) -> Tensor:
    """`avg_blur_pool2d` for ``(N, C, D, H, W)`` or ``(C, D, H, W)``.

    Example:
        >>> import torch
        >>> avg_blur_pool3d(torch.ones(1, 8, 4, 9, 9), kernel_size=2).shape
        torch.Size([1, 8, 2, 4, 4])
    """
    window = Window.make(kernel_size, padding, 1, ceil_mode, ndim=3)
    return avg_blur_pool(x, window, Blur.make(filt_size, stride, pad_type, 0, 3, wide))


def blur_upsample1d(
    x: Tensor, filt_size: FilterSize = 4, stride: int | Sequence[int] = 2, pad_type: str = "replicate"
) -> Tensor:
    """`blur_upsample2d` for ``(N, C, L)`` or ``(C, L)``.

    Example:
        >>> import torch
        >>> blur_upsample1d(torch.tensor([[[0.0, 4.0]]]))
        tensor([[[0., 1., 3., 4.]]])
    """
    return blur_upsample(x, Interpolation.of(filt_size, stride, pad_type, ndim=1))


def blur_upsample2d(
    x: Tensor, filt_size: FilterSize = 4, stride: int | Sequence[int] = 2, pad_type: str = "replicate"
) -> Tensor:
    """Upsample by zero insertion and a low-pass filter with a gain of ``stride`` per axis: a transposed blur.

    Binomial taps are widened to the stride (`antialiased_zoo.wide_taps`): filter size 2 gives
    nearest-neighbour interpolation, 3 and (at stride 2) 4 linear interpolation, 5 to 7 are
    smoother. The taps that contribute to one output are normalised to sum to one, so that a
    constant map stays constant, at the borders too, as the map is padded before zeros are inserted.

    Args:
        x: ``(N, C, H, W)`` or ``(C, H, W)``, any floating dtype.
        filt_size: 2 to 7, or custom taps, at least ``stride`` of them (1 is enough at stride 1).
        stride: Upsampling factor. A pair gives one for each axis, and an axis with stride 1 is then
            not blurred.
        pad_type: "replicate" ("repl"), "reflect" ("refl") or "zero". With "zero" a constant map
            fades at the border, and the result is the adjoint of ``blur_pool2d(...,
            pad_type="zero", wide=True)`` times ``stride`` for each axis.

    Returns:
        ``(N, C, H * stride, W * stride)``, dtype, device and memory format of ``x``.

    Raises:
        ValueError: If an argument or the shape of ``x`` is out of range, or the taps leave some
            output pixels without a value.
        TypeError: If ``x`` is not floating point.

    Source: the transpose of Zhang, ICML 2019, section 3.2, as in Karras et al., StyleGAN, CVPR 2019
        ("bilinear sampling").

    Example:
        >>> import torch
        >>> blur_upsample2d(torch.ones(1, 8, 5, 6)).shape
        torch.Size([1, 8, 10, 12])
    """
    return blur_upsample(x, Interpolation.of(filt_size, stride, pad_type, ndim=2))


def blur_upsample3d(
    x: Tensor, filt_size: FilterSize = 4, stride: int | Sequence[int] = 2, pad_type: str = "replicate"
) -> Tensor:
    """`blur_upsample2d` for ``(N, C, D, H, W)`` or ``(C, D, H, W)``.

    Example:
        >>> import torch
        >>> blur_upsample3d(torch.ones(1, 8, 5, 6, 7), stride=(1, 2, 2)).shape
        torch.Size([1, 8, 5, 12, 14])
    """
    return blur_upsample(x, Interpolation.of(filt_size, stride, pad_type, ndim=3))
