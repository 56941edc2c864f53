"""Average pools that blur: the blur takes the average's place, with the sizes of torch's pools."""

from __future__ import annotations

from torch import Tensor

from .dispatch import blur_pool
from .filters import Blur
from .window import Window


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
    y = blur_pool(x, blur.with_padding(tuple(padding)), kernel)
    for axis, o in enumerate(out, start=-ndim):
        y = y.narrow(axis, 0, o)
    return y
