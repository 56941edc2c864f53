"""Average pools that blur: the blur takes the average's place, with the sizes of torch's pools."""

from __future__ import annotations

from torch import Tensor

from .dispatch import blur_pool
from .filters import Blur
from .window import Window


def avg_blur_pool(x: Tensor, window: Window, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """The blur in place of an average over ``window``: centred on the same places, and of the same size."""
    ndim = len(window.size)
    out = window.out_size(x.shape[-ndim:], blur.stride)
    padding = []
    axes = zip(window.size, window.padding, blur.stride, blur.taps, strict=True)
    for axis, (k, p, s, taps) in enumerate(axes, start=-ndim):
        # The same for every size, so that compiled code has nothing to decide.
        before = p - (k - len(taps)) // 2  # the centres coincide, or the blur is half a pixel early
        after = 2 * p - k + len(taps) - before + (s - 1 if window.ceil_mode else 0)
        if min(before, after) < 0:  # a window longer than the blur: its ends weigh nothing
            x = x.narrow(axis, max(0, -before), x.shape[axis] + min(0, before) + min(0, after))
        padding.append((max(0, before), max(0, after)))
    y = blur_pool(x, blur.with_padding(tuple(padding)), kernel)
    if window.ceil_mode:  # there may be one place too many
        for axis, o in enumerate(out, start=-ndim):
            y = y.narrow(axis, 0, o)
    return y
