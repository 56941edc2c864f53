"""The compile-time description of one axis of the kernel; the kernel is compiled once for each."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple


class Axis(NamedTuple):
    """An axis of a blur, or of its transpose.

    Attributes:
        taps: The blur's taps.
        stride: The blur's stride.
        before: The padding before the map.
        is_zero_padded: True for zero padding; False if the padding copies pixels of the map.
        folds: How often a padding position is reflected until it lies in the map; 0 replicates the
            border.
        source_folds: The same for the positions that are read; 0 in the transpose, which reads no
            padding.
        slots: Number of source positions that each position of the result reads.
        starts: For each row of a band, the first of the band's source rows that it reads.
        weights: For each row of a band, the weight of each slot, away from the border.
        margin: Distance from the border from which these weights are valid.
        transposed: True for the transpose.
        shift: For position p, the first output that the transpose reads is
            (p + shift) // stride - back.
        back: See ``shift``.
    """

    taps: tuple[float, ...]
    stride: int
    before: int
    is_zero_padded: bool
    folds: int
    source_folds: int
    slots: int
    starts: tuple[int, ...]
    weights: tuple[tuple[float, ...], ...]
    margin: int
    transposed: bool
    shift: int = 0
    back: int = 0


@lru_cache(maxsize=1024)
def blur_axis(taps: tuple[float, ...], stride: int, padding: tuple[int, int], mode: str, size: int, rows: int) -> Axis:
    """The axis of the blur of a map of this size, for bands of ``rows`` rows."""
    folds = _folds(size, max(padding)) if mode == "reflect" else 0
    starts = tuple(stride * i for i in range(rows))
    return Axis(
        taps,
        stride,
        padding[0],
        mode == "constant",
        folds,
        folds,
        len(taps),
        starts,
        (taps,) * rows,
        max(len(taps), 1 + max(padding)),
        False,
    )


@lru_cache(maxsize=1024)
def transposed_axis(
    taps: tuple[float, ...], stride: int, padding: tuple[int, int], mode: str, size: int, rows: int
) -> Axis:
    """The axis of the transposed blur of a map of this size, for bands of at least ``rows`` rows."""
    blur = blur_axis(taps, stride, padding, mode, size, rows)
    k = len(taps)
    # floor((place + before - k) / stride) + 1, computed with non-negative integers.
    shift = padding[0] - k + stride + k * stride
    # Without padding a position is read by the outputs that start up to k - 1 positions before it;
    # padding may add others.
    others = [0, -(-k // stride) - 1]
    for output in range((size + sum(padding) - k) // stride + 1):
        for place in range(output * stride - padding[0], output * stride - padding[0] + k):
            if not blur.is_zero_padded and not 0 <= place < size:
                copied = _copied(place, size, blur.folds)
                others.append(output - ((copied + shift) // stride - k))
    slots, back = max(others) - min(others) + 1, k - min(others)
    band = range(stride * -(-rows // stride))
    starts = tuple((shift + i) // stride - shift // stride for i in band)
    nearest = [i + padding[0] - stride * ((i + shift) // stride - back) for i in band]  # the tap in slot 0
    weights = tuple(
        tuple(taps[t] if 0 <= t < k else 0.0 for t in range(tap, tap - slots * stride, -stride)) for tap in nearest
    )
    return blur._replace(
        source_folds=0, slots=slots, starts=starts, weights=weights, transposed=True, shift=shift, back=back
    )


def _folds(size: int, reach: int) -> int:
    """How often a position up to ``reach`` outside a map of this size is reflected until it lies in it."""
    return 0 if size == 1 else -(-reach // (size - 1))


def _copied(place: int, size: int, folds: int) -> int:
    """The position in the map that a position of the padded map copies."""
    for _ in range(folds):
        place = size - 1 - abs(size - 1 - abs(place))
    return min(max(place, 0), size - 1)
