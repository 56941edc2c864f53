"""Average pooling replaced by a blur, with the output sizes of torch's pools."""

from __future__ import annotations

from torch import Tensor

from .dispatch import blur_pool
from .filters import Blur
from .window import Window


def avg_blur_pool(x: Tensor, window: Window, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """A blur that replaces an average over ``window``, with the same centres and output size."""
    ndim = len(window.size)
    padding = []
    axes = zip(window.size, window.padding, blur.stride, blur.taps, strict=True)
    # None of this depends on the map's size, so compiled code has no branches.
    for axis, (k, p, s, taps) in enumerate(axes):
        before = p - (k - len(taps)) // 2  # the centres coincide, or the blur is half a pixel early
        after = window.last_start(0, s, axis) + len(taps) - before
        if min(before, after) < 0:  # the window is longer than the blur: crop its ends
            size = x.shape[axis - ndim]
            x = x.narrow(axis - ndim, max(0, -before), size + min(0, before) + min(0, after))
        padding.append((max(0, before), max(0, after)))
    return blur_pool(x, blur.with_padding(tuple(padding)), kernel)
