"""Pools that blur: a dense maximum or, in place of an average, the blur alone; sizes are those of torch's pools."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .filters import Blur
from .resample import blur_pool, is_plain_cpu


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
    if window.ceil_mode:
        x = _reaching(x, window, blur)
    if not _slices_pay(x):
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[ndim - 1]
        return blur_pool(pool(x, window.size, 1, window.padding, window.dilation), blur, kernel)
    # One image at a time keeps the temporaries in the cache.
    images = [blur_pool(_max_by_slices(x[i : i + 1], window), blur, kernel) for i in range(len(x))]
    return torch.cat(images) if len(images) > 1 else images[0]


def _slices_pay(x: Tensor) -> bool:
    """True where torch's max pool would write 64-bit indices that nobody reads: on a CPU, without gradients."""
    needs_grad = x.requires_grad and torch.is_grad_enabled()
    return is_plain_cpu(x) and x.dim() == 4 and len(x) > 0 and not needs_grad


def _max_by_slices(x: Tensor, window: Window) -> Tensor:
    """The dense maximum as that of shifted slices, one axis after the other."""
    pads = [p for padding in reversed(window.padding) for p in (padding, padding)]
    y = F.pad(x, pads, value=-torch.inf) if any(pads) else x
    for axis, (k, d) in enumerate(zip(window.size, window.dilation, strict=True), start=2):
        n = y.shape[axis] - d * (k - 1)
        slices = [y.narrow(axis, i * d, n) for i in range(k)]
        y = functools.reduce(torch.maximum, slices)
    return y


def _reaching(x: Tensor, window: Window, blur: Blur) -> Tensor:
    """Append -inf, which no maximum picks, so that the dense map reaches the window that ``ceil_mode`` adds."""
    size = x.shape[2:]
    reach = [(n - 1) * s + 1 for n, s in zip(window.out_size(size, blur.stride), blur.stride, strict=True)]
    more = [max(0, r - d) for r, d in zip(reach, window.dense_size(size), strict=True)]
    return F.pad(x, [p for m in reversed(more) for p in (0, m)], value=-torch.inf) if any(more) else x


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
