"""A blur for ops whose padding depends on the stride: it keeps the positions that the strided op kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import scriptable
from .dispatch import blur_pool, check_map
from .filters import FilterSize
from .modules import Downsample
from .padding import padded
from .torch_internals import at_most

#: For each spatial axis, and each remainder of the dense map's size by the blur's stride, the first
#: position to keep.
StrideOffsets = tuple[tuple[int, ...], ...]


class OffsetDownsample(Downsample):
    """`Downsample` whose first kept position depends on the map's size, for any number of spatial axes.

    TensorFlow's "SAME" padding depends on the stride: at even sizes a 3x3 convolution with stride 2
    does not pad before the map, and its outputs are those at 1, 3, 5, ... of the dense map; at odd
    sizes those at 0, 2, 4, ....

    Args:
        offsets: For each axis, and each remainder of the map's size by the stride, the first
            position to keep.
        stride: One for each axis.
        pad_type: See `Downsample`.
        filt_size: See `Downsample`.
        wide: See `Downsample`.

    Shape:
        ``(N, C, *spatial)`` or ``(C, *spatial)`` to ``ceil((size - offset) / stride)`` along each
        axis.

    Raises:
        ValueError: If an argument is out of range, or the offsets do not fit the stride.

    Example:
        >>> import torch
        >>> layer = OffsetDownsample(((1, 0),), (2,), filt_size=1)
        >>> layer(torch.arange(6.0).view(1, 1, 6)).tolist(), layer(torch.arange(5.0).view(1, 1, 5)).tolist()
        ([[[1.0, 3.0, 5.0]]], [[[0.0, 2.0, 4.0]]])
    """

    def __init__(
        self,
        offsets: StrideOffsets,
        stride: Sequence[int],
        pad_type: str = "reflect",
        filt_size: FilterSize = 4,
        wide: bool = False,
    ) -> None:
        self.ndim = len(stride)
        if [len(places) for places in offsets] != list(stride):
            raise ValueError(f"offsets must give a position for each remainder of the stride {stride}, got {offsets}")
        super().__init__(None, pad_type, filt_size, tuple(stride), wide=wide)
        self.offsets = offsets
        self._places = [list(places) for places in offsets]

    def _resample(self, x: Tensor) -> Tensor:
        check_map(x, self.blur)
        if x.dim() == self.ndim + 1:
            return self._resample(x.unsqueeze(0)).squeeze(0)
        sizes, around = x.shape[2:], self.blur.padding
        first = [_at(places, n % len(places)) for n, places in zip(sizes, self.offsets, strict=True)]
        # Dynamo calls symbolic sizes integers too.
        known = not torch.compiler.is_dynamo_compiling() and all(isinstance(n, int) for n in first)
        if known and all(n <= before for n, (before, _) in zip(first, around, strict=True)):
            less = [(before - n, after) for n, (before, after) in zip(first, around, strict=True)]
            return blur_pool(x, self.blur.with_padding(tuple(less)), self.kernel)
        # The size is symbolic, or the padding is shorter than the offset: this takes another copy.
        # Not a slice, whose layout would depend on the size.
        x = padded(x, self.blur)
        for axis, (n, start, places) in enumerate(zip(sizes, first, self.offsets, strict=True)):
            length = _last(places, n, start) * len(places) + len(self.blur.taps[axis])
            x = x.index_select(axis + 2, torch.arange(start, start + length, device=x.device))
        return blur_pool(x, self.blur.with_padding(((0, 0),) * self.ndim), self.kernel)

    def _script(self, x: Tensor) -> Tensor:
        before: list[int] = []
        after: list[int] = []
        for axis, stride in enumerate(self._stride):
            n, taps = x.size(axis + 2), self.kernel.size(axis + 2)
            first = self._places[axis][n % stride]
            before.append(self._before[axis] - first)
            after.append((n - first - 1) // stride * stride + taps - n - before[axis])
        return scriptable.blurred(x, self.kernel, self._stride, self._mode, before, after)


def _last(places: Sequence[int], size: int, first: int) -> int:
    """The index of the last output."""
    if all(place < (remainder or len(places)) for remainder, place in enumerate(places)):
        first = 0  # the index is the same, and sizes in compiled code stay short
    return (size - first - 1) // len(places)


def _at(places: Sequence[int], remainder: int) -> int:
    """``places[remainder]`` as arithmetic, so that compiled code is one graph for all sizes."""
    place, last = places[0], len(places) - 1
    for r in range(1, len(places)):
        reached = remainder // r if 2 * r > last else at_most(1, remainder // r)
        place += (places[r] - places[r - 1]) * reached
    return place
