"""Downsamplers: classes, registered by name, that make the modules that take over a stride."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from ..layers import (
    AvgBlurPool1d,
    AvgBlurPool2d,
    AvgBlurPool3d,
    Downsample,
    Downsample1d,
    Downsample3d,
    FilterSize,
    MaxBlurPool1d,
    MaxBlurPool2d,
    MaxBlurPool3d,
    OffsetDownsample,
    StrideOffsets,
    Window,
    read_filter_size,
    wide_taps,
)
from .op_table import register_strided_op

_BLUR = (Downsample1d, Downsample, Downsample3d)
_MAX_BLUR = (MaxBlurPool1d, MaxBlurPool2d, MaxBlurPool3d)
_AVG_BLUR = (AvgBlurPool1d, AvgBlurPool2d, AvgBlurPool3d)
_MAX: tuple[Callable[..., nn.Module], ...] = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_AVG: tuple[Callable[..., nn.Module], ...] = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)


class LacksMethodError(ValueError):
    """A downsampler has no method for an op of the model."""


class Downsampler:
    """Base class of downsamplers: subclass it, override `subsample`, and register it with `register_downsampler`.

    The other methods have defaults, or raise an error that names what the downsampler lacks.

    Attributes:
        modules: Classes of the modules that it makes; the transform does not trace into them.

    Args:
        filter_size: See `antialias_`.
        pad_type: See `antialias_`.
        wide: See `antialias_`.

    Raises:
        ValueError: If an argument is out of range.
    """

    modules: tuple[type[nn.Module], ...] = ()

    def __init__(self, filter_size: FilterSize = 4, pad_type: str = "reflect", wide: bool = False) -> None:
        Downsample(filt_size=filter_size, pad_type=pad_type, wide=wide)  # checks the arguments
        self.filter_size = filter_size
        self.pad_type = pad_type
        self.wide = wide

    def at(self, level: int) -> Downsampler:
        """The downsampler for ops that have ``level`` treated ops before them; by default this one."""
        return self

    def subsample(self, stride: tuple[int, ...], channels: int | None) -> nn.Module:
        """The module that subsamples a dense map.

        Args:
            stride: One stride for each spatial axis.
            channels: Channels of the map, or None if unknown.

        Returns:
            A module from ``(N, C, *spatial)`` to ``ceil(size / stride)`` along each spatial axis.
        """
        raise NotImplementedError

    def dense(self, stride: tuple[int, ...], channels: int | None) -> nn.Module:
        """The module that filters a map for a stride but keeps its size, for ``placement="before_conv"``."""
        raise self._lacks("no filter before a convolution that keeps its stride (placement='before_conv')")

    def subsample_at(self, offsets: StrideOffsets, stride: tuple[int, ...]) -> nn.Module:
        """Like `subsample`, for an op whose first output depends on the map's size ("SAME" padding)."""
        raise self._lacks("no method for an op whose padding depends on its stride; exclude it with where=")

    def max_pool(self, window: Window, stride: tuple[int, ...]) -> nn.Module:
        """The module that replaces a max pool: a dense maximum, then `subsample`."""
        if window.ceil_mode:
            raise self._lacks("no method for a max pool with ceil_mode=True; exclude it with where=")
        pool = _MAX[len(stride) - 1](window.size, 1, window.padding, window.dilation)
        return nn.Sequential(pool, self.subsample(stride, None))

    def avg_pool(self, window: Window, stride: tuple[int, ...]) -> nn.Module:
        """The module that replaces an average pool and keeps its output size: a dense average, then `subsample`."""
        if window.ceil_mode:
            raise self._lacks("no method for an average pool with ceil_mode=True; exclude it with where=")
        return nn.Sequential(_AVG[len(stride) - 1](window.size, 1, window.padding), self.subsample(stride, None))

    def _lacks(self, what: str) -> LacksMethodError:
        return LacksMethodError(f"{type(self).__name__} has {what}")


class Blur(Downsampler):
    """The paper's downsampler: a low-pass filter, then subsampling."""

    def subsample(self, stride: tuple[int, ...], channels: int | None) -> nn.Module:  # noqa: D102
        return self._blur(stride, channels, dense=False)

    def dense(self, stride: tuple[int, ...], channels: int | None) -> nn.Module:  # noqa: D102
        return self._blur(stride, channels, dense=True)

    def subsample_at(self, offsets: StrideOffsets, stride: tuple[int, ...]) -> nn.Module:  # noqa: D102
        return OffsetDownsample(offsets, stride, self.pad_type, *self._filter(stride))

    def max_pool(self, window: Window, stride: tuple[int, ...]) -> nn.Module:  # noqa: D102
        size, wide = self._filter(stride)
        facts = (window.padding, window.dilation, window.ceil_mode, self.pad_type, wide)
        return _MAX_BLUR[len(stride) - 1](window.size, size, stride, *facts)

    def avg_pool(self, window: Window, stride: tuple[int, ...]) -> nn.Module:  # noqa: D102
        size, wide = self._filter(stride)
        facts = (window.padding, window.ceil_mode, self.pad_type, wide)
        return _AVG_BLUR[len(stride) - 1](window.size, size, stride, *facts)

    def _blur(self, stride: Sequence[int], channels: int | None, dense: bool) -> nn.Module:
        size, wide = self._filter(stride)
        return _BLUR[len(stride) - 1](channels, self.pad_type, size, stride, 0, wide, dense)

    def _filter(self, stride: Sequence[int]) -> tuple[FilterSize, bool]:
        """The filter size or taps, and whether they are widened."""
        return self.filter_size, self.wide


class AlternatingBlur(Blur):
    """The paper's blur, with even-sized filters that shift the map in alternating directions from level to level.

    A filter of even size shifts its map by half a pixel. In the paper all shifts go in the same direction: after four
    blurs, the last on a map with 16 image pixels between neighbours, the map is 15 image pixels away from the original
    network's. With alternating directions it is 5 pixels away, so a pretrained network has less to relearn. Odd-sized
    filters do not shift.
    """

    def at(self, level: int) -> Downsampler:
        """The downsampler for ops that have ``level`` treated ops before them."""
        return _OtherSide(self.filter_size, self.pad_type, self.wide) if level % 2 else self


class _OtherSide(Blur):
    """Shifts the map by half a pixel in the other direction: zero taps at the end move the filter's centre."""

    def _filter(self, stride: Sequence[int]) -> tuple[FilterSize, bool]:
        size, boxes = read_filter_size(self.filter_size), {max(2, s) if self.wide else 2 for s in stride if s > 1}
        if not isinstance(size, int):
            return (*size, *[0.0] * (1 - len(size) % 2)), False
        if len(boxes) > 1:
            raise ValueError(f"downsampler='alternating' with wide=True needs equal strides, got {tuple(stride)}")
        taps, before = wide_taps(size, max(boxes)), (size - 1) // 2 * (max(boxes) - 1)
        return (*taps, *[0.0] * (len(taps) - 1 - 2 * before)), False


_REGISTERED: dict[str, type[Downsampler]] = {"blur": Blur, "alternating": AlternatingBlur}


def register_downsampler(name: str, downsampler: type[Downsampler]) -> None:
    """Register a downsampler for ``antialias(model, downsampler=name)``.

    Args:
        name: A name that is not taken; registering a class of the same name again replaces it.
        downsampler: A subclass of `Downsampler`.

    Raises:
        TypeError: If it is not a subclass of `Downsampler`.
        ValueError: If the name is taken by another class.

    Example:
        >>> class Nearest(Downsampler):
        ...     def subsample(self, stride, channels):
        ...         return nn.MaxPool2d(1, stride)
        >>> register_downsampler("nearest", Nearest)
    """
    if not isinstance(downsampler, type) or not issubclass(downsampler, Downsampler):
        raise TypeError(f"downsampler must be a subclass of Downsampler, got {downsampler!r}")
    known = _REGISTERED.setdefault(name, downsampler)
    if known.__qualname__ != downsampler.__qualname__:  # equal if a notebook cell runs again
        raise ValueError(f"{name!r} is already the name of {known.__qualname__}: choose another name")
    _REGISTERED[name] = downsampler
    if downsampler.modules:
        register_strided_op(downsampler.modules, lambda _: None)


def make_downsampler(name: str, filter_size: FilterSize, pad_type: str, wide: bool) -> Downsampler:
    """Make the registered downsampler of a name.

    Raises:
        ValueError: If the name is unknown, or an option is out of range.
    """
    if name not in _REGISTERED:
        raise ValueError(f"downsampler must be one of {tuple(_REGISTERED)}, got {name!r}")
    return _REGISTERED[name](filter_size, pad_type, wide)


def upsampling_blur(filter_size: FilterSize, stride: tuple[int, ...], channels: int | None, pad_type: str) -> nn.Module:
    """The dense blur after an upsampling op; binomial taps are widened to the factor, as in `BlurUpsample`."""
    wide = isinstance(read_filter_size(filter_size), int)
    return _BLUR[len(stride) - 1](channels, pad_type, filter_size, stride, 0, wide, dense=True)
