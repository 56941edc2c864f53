"""Pools that blur: a dense maximum or, in place of an average, the blur alone; sizes are those of torch's pools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .cpu.dense_pool import DensePool
from .cpu.maxima import AxisMax, axis_max
from .cpu.padded_blur import padded_blur
from .dispatch import blur_pool, own_precision
from .eligibility import is_onednn_map, layout_of, needs_grad
from .filters import Blur

# In channels-last torch's own pool is as quick up to here: rows or columns with gradients, bytes without.
_SMALL_WITH_GRAD = 56
_SMALL = 2 << 20


@dataclass(frozen=True)
class Window:
    """The window of a pool, one number for each spatial axis, as in torch's pools.

    Attributes:
        size: Length of the window.
        padding: Implicit padding on both sides.
        dilation: Distance between the window's elements.
        ceil_mode: True if a last window may reach past the end.
    """

    size: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False

    @classmethod
    def make(
        cls,
        size: int | Sequence[int],
        padding: int | Sequence[int],
        dilation: int | Sequence[int],
        ceil_mode: bool,
        ndim: int,
    ) -> Window:
        """Check a user's arguments.

        Raises:
            ValueError: If an argument is out of range; the message names it.
        """
        sizes, paddings, dilations = (_each(value, ndim) for value in (size, padding, dilation))
        for name, values, least in (("kernel_size", sizes, 1), ("padding", paddings, 0), ("dilation", dilations, 1)):
            if len(values) != ndim or not all(isinstance(value, int) and value >= least for value in values):
                raise ValueError(f"{name} must be an integer of {least} or more, or {ndim} of them, got {values}")
        if any(2 * p > n for p, n in zip(paddings, sizes, strict=True)):
            raise ValueError(f"padding must be at most half the kernel size, got {paddings} for {sizes}")
        return cls(sizes, paddings, dilations, ceil_mode)

    def dense_size(self, size: Sequence[int]) -> list[int]:
        """Spatial size of the pool at stride 1."""
        axes = zip(size, self.size, self.padding, self.dilation, strict=True)
        return [n + 2 * p - d * (k - 1) for n, k, p, d in axes]

    def out_size(self, size: Sequence[int], stride: Sequence[int]) -> list[int]:
        """Spatial size of torch's pool with this window and stride."""
        return [
            self._out(dense, n, s, p)
            for dense, n, s, p in zip(self.dense_size(size), size, stride, self.padding, strict=True)
        ]

    def _out(self, dense: int, n: int, stride: int, padding: int) -> int:
        if not self.ceil_mode:
            return (dense - 1) // stride + 1
        out = -(-(dense - 1) // stride) + 1
        # A window that would start past the input is left out.
        return out - 1 if (out - 1) * stride >= n + padding else out


def max_blur_pool(x: Tensor, window: Window, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """Dense maximum over ``window``, then the blur; ``(N, C, *spatial)`` or ``(C, *spatial)``."""
    ndim = len(window.size)
    if x.dim() == 1 + ndim:
        return max_blur_pool(x.unsqueeze(0), window, blur, kernel).squeeze(0)
    if not x.is_floating_point():  # labels, which have no average: the maximum alone
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[ndim - 1]
        return pool(x, window.size, blur.stride, window.padding, window.dilation, window.ceil_mode)
    reach = _reach(x, window, blur)
    if _goes_densely(x) and (maxima := tuple(_maxima(x, window, reach))):
        size = tuple(dense + more for dense, more in zip(window.dense_size(x.shape[2:]), reach, strict=True))
        with own_precision(x):
            return DensePool(maxima, padded_blur(blur, size, x.shape[1], x.dtype, layout_of(x)))(x)
    if any(reach):  # nothing picks -inf
        x = F.pad(x, [p for more in reversed(reach) for p in (0, more)], value=-torch.inf)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[ndim - 1]
    return blur_pool(pool(x, window.size, 1, window.padding, window.dilation), blur, kernel)


def _goes_densely(x: Tensor) -> bool:
    """Where `DensePool` beats torch's pool, which writes 64-bit indices (scripts/benchmark.py, "layers")."""
    if not is_onednn_map(x):
        return False
    if layout_of(x) == torch.contiguous_format:
        return True
    return max(x.shape[2:]) > _SMALL_WITH_GRAD if needs_grad(x) else x.numel() * x.element_size() > _SMALL


def _maxima(x: Tensor, window: Window, reach: Sequence[int]) -> Iterator[AxisMax]:
    """The maximum along each axis, the last axis first: then equal values count in the order of torch's pools."""
    axes = zip(x.shape[2:], window.size, window.dilation, window.padding, reach, strict=True)
    for axis, (n, size, dilation, padding, more) in reversed(list(enumerate(axes, start=2))):
        if size > 1 or more:
            yield axis_max(axis, n, size, dilation, (padding, padding + more))


def _reach(x: Tensor, window: Window, blur: Blur) -> list[int]:
    """How much further at its end each axis must go for the dense map to reach the window that ``ceil_mode`` adds."""
    size = x.shape[2:]
    if not window.ceil_mode:
        return [0] * len(size)
    ends = [(n - 1) * s + 1 for n, s in zip(window.out_size(size, blur.stride), blur.stride, strict=True)]
    return [max(0, end - dense) for end, dense in zip(ends, window.dense_size(size), strict=True)]


def avg_blur_pool(x: Tensor, window: Window, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """The blur in place of an average over ``window``: centred on the same places, and of the same size."""
    ndim = len(window.size)
    size = x.shape[-ndim:]
    out = window.out_size(size, blur.stride)
    padding = []
    axes = zip(size, out, window.size, window.padding, blur.stride, blur.taps, strict=True)
    for axis, (n, o, k, p, s, taps) in enumerate(axes, start=-ndim):
        before = p - (k - len(taps)) // 2  # the centres coincide, or the blur is half a pixel early
        if before < 0:  # a window longer than the blur: its first pixels weigh nothing
            x = x.narrow(axis, -before, n + before)
        padding.append((max(0, before), max(0, (o - 1) * s + len(taps) - n - before)))
    y = blur_pool(x, replace(blur, padding=tuple(padding)), kernel)
    for axis, o in enumerate(out, start=-ndim):
        y = y.narrow(axis, 0, o)
    return y


def _each(value: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,) * ndim
