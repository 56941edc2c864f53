"""Blurred upsampling, a transposed blur: zero insertion, then a low-pass filter that keeps constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .dispatch import check_map, own_precision
from .eligibility import layout_of
from .filters import Blur, FilterSize, read_filter_size
from .padding import padded
from .torch_functions import torch_function


@dataclass(frozen=True)
class Interpolation(Blur):
    """The checked arguments of a blurred upsampling; ``padding`` applies before zeros are inserted.

    Attributes:
        crop: ``padding`` of the transposed convolution for each axis: pixels cropped at both ends.
        extra: ``output_padding`` for each axis: pixels added back at the end.
    """

    crop: tuple[int, ...]
    extra: tuple[int, ...]

    @classmethod
    def of(cls, filt_size: FilterSize, stride: int | Sequence[int], pad_type: str, ndim: int) -> Interpolation:
        """The transpose of the `Blur` with the same arguments, scaled so that constants stay constant.

        Raises:
            ValueError: If an argument is out of range, or some output pixels would get no value.
        """
        wide = isinstance(read_filter_size(filt_size), int)
        blur = Blur.make(filt_size, stride, pad_type, 0, ndim, wide)
        axes = zip(blur.taps, blur.stride, blur.padding, strict=True)
        padding, crop, extra = zip(*(_geometry(len(taps), s, before) for taps, s, (before, _) in axes), strict=True)
        taps = tuple(_unit_gain(taps, s) for taps, s in zip(blur.taps, blur.stride, strict=True))
        return cls(taps, blur.stride, padding, blur.mode, crop, extra)


def _unit_gain(taps: tuple[float, ...], stride: int) -> tuple[float, ...]:
    """Normalise each set of taps that contributes to the same output."""
    sums = [sum(taps[phase::stride]) for phase in range(stride)]
    if min([abs(total) for total in sums]) <= 1e-6 * sum([abs(tap) for tap in taps]):
        raise ValueError(
            f"{len(taps)} taps leave pixels without a value at a stride of {stride}: choose a filter size of 2 to 7, "
            f"or {stride} taps or more of your own, whose every {stride}-th do not sum to zero"
        )
    return tuple(tap / sums[i % stride] for i, tap in enumerate(taps))


def _geometry(length: int, stride: int, before: int) -> tuple[tuple[int, int], int, int]:
    """Padding, crop and extra that align the result with the first window of the blur."""
    first, last = (length - 1 - before) // stride, (stride - 1 + before) // stride
    start = before + stride * first
    end = stride * (last - 1) + length - before
    if start < end:  # output_padding adds pixels at the end only
        first, start = first + 1, start + stride
    return (first, last), start, start - end


def blur_upsample(x: Tensor, interpolation: Interpolation, kernel: Tensor | None = None) -> Tensor:
    """Apply a checked `Interpolation` to ``(N, C, *spatial)`` or ``(C, *spatial)``.

    ``kernel`` is ``interpolation.kernel()`` on the device of ``x``, if the caller keeps one.
    """
    check_map(x, interpolation)
    ndim = len(interpolation.stride)
    if x.dim() == 1 + ndim:
        return blur_upsample(x.unsqueeze(0), interpolation, kernel).squeeze(0)
    weight = interpolation.weight(x, kernel)
    convolve = torch_function("conv_transpose{}d", ndim)
    with own_precision(x):
        y = convolve(
            padded(x, interpolation),
            weight,
            stride=interpolation.stride,
            padding=interpolation.crop,
            output_padding=interpolation.extra,
            groups=x.shape[1],
        )
    return y.contiguous(memory_format=layout_of(x))
