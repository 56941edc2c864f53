"""Average pools that blur: the blur takes the average's place, with the sizes of torch's pools."""

from __future__ import annotations

from torch import Tensor

from .dispatch import blur_pool
from .filters import Blur
from .window import Window


def avg_blur_pool(x: Tensor, window: Window, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """The blur in place of an average over ``window``: centred on the same places, and of the same size."""
    ndim = len(window.size)
    padding = []
    axes = zip(window.size, window.padding, blur.stride, blur.taps, strict=True)
    # All of it is the same for every size, so that compiled code has nothing to decide.
    for axis, (k, p, s, taps) in enumerate(axes):
        before = p - (k - len(taps)) // 2  # the centres coincide, or the blur is half a pixel early
        after = window.last_place(0, s, axis) + len(taps) - before
        if min(before, after) < 0:  # a window longer than the blur: its ends weigh nothing
            size = x.shape[axis - ndim]
            x = x.narrow(axis - ndim, max(0, -before), size + min(0, before) + min(0, after))
        padding.append((max(0, before), max(0, after)))
    return blur_pool(x, blur.with_padding(tuple(padding)), kernel)
