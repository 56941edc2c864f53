"""The compile-time description of one axis: the kernel is compiled once for each description."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple, TypeAlias, TypeVar

# A blur along an axis: taps, stride, padding before and after, padding mode; and the size of its map.
AxisFacts: TypeAlias = tuple[tuple[float, ...], int, tuple[int, int], str, int]

_Weights: TypeAlias = Mapping[int, Mapping[int, float]]
_T = TypeVar("_T", int, float)
_Table: TypeAlias = tuple[tuple[float, ...], ...]


class Border(NamedTuple):
    """What padding adds to the weights of one unit of a transposed blur.

    Attributes:
        unit: The unit, counted from the border.
        is_last: True for the border at the end of the axis.
        weights: As in `Axis`.
    """

    unit: int
    is_last: bool
    weights: _Table


class Axis(NamedTuple):
    """An axis of a blur, or of its transpose, as a sequence of equal units.

    Unit ``u`` computes the positions ``u * writes`` to ``u * writes + writes - 1`` of the result as weighted
    sums of the positions of the source that start at ``u * reads - before``. A blur's unit writes one output,
    a transposed blur's as many positions as the blur's stride.

    Attributes:
        slots: Number of positions that a unit reads.
        writes: Number of positions that a unit writes.
        reads: Number of positions of the source between two units.
        before: Number of positions that a unit reads before its first.
        after: Number of positions that the last unit may read after the source's last.
        weights: For each position that a unit writes, the weight of each position that it reads.
        is_padded: True if a position outside the source copies one inside it; False if it is zero.
        folds: How often a position outside is reflected until it lies in the source; 0 copies the border.
        borders: Further weights of the units near the borders.
        uses: For each weight, 1 if every unit uses it, 2 if only some near a border do, 0 if none does.
    """

    slots: int
    writes: int
    reads: int
    before: int
    after: int
    weights: _Table
    is_padded: bool
    folds: int
    borders: tuple[Border, ...]
    uses: tuple[tuple[int, ...], ...]


def blur_axis(facts: AxisFacts) -> Axis:
    """The axis of a blur."""
    taps, stride, padding, mode, size = facts
    folds = -(-max(padding) // (size - 1)) if mode == "reflect" and size > 1 else 0
    return Axis(
        slots=len(taps),
        writes=1,
        reads=stride,
        before=padding[0],
        after=max(padding[1], 0),
        weights=(taps,),
        is_padded=mode != "constant",
        folds=folds,
        borders=(),
        uses=(tuple(int(tap != 0) for tap in taps),),
    )


@lru_cache(maxsize=1024)
def transposed_axis(facts: AxisFacts) -> Axis:
    """The axis of a transposed blur: its units read outputs of the blur, and write positions of the map."""
    taps, stride, padding, _, size = facts
    count = (size + sum(padding) - len(taps)) // stride + 1
    reach = len(taps) + abs(padding[0])
    regular = _unit(_transposed(facts, range(-reach, reach), is_endless=True), 0, stride)
    found = _transposed(facts, range(count))
    last = -(-size // stride) - 1
    borders = {}
    for unit in range(last + 1):
        weights = _unit(found, unit, stride)
        more = {at: weight - regular.get(at, 0.0) for at, weight in weights.items() if weight != regular.get(at)}
        if more:
            borders[unit] = more
    places = [0, *(place for weights in (regular, *borders.values()) for _, place in weights)]
    window = range(min(places), max(places) + 1)
    tables = [(unit, _table(more, stride, window)) for unit, more in borders.items()]
    uses = {at: 1 if at in regular else 2 for weights in (regular, *borders.values()) for at in weights}
    return Axis(
        slots=len(window),
        writes=stride,
        reads=1,
        before=-window.start,
        after=max(last + window.stop - count, 0),
        weights=_table(regular, stride, window),
        is_padded=False,
        folds=0,
        borders=tuple(Border(min(unit, last - unit), unit > last - unit, table) for unit, table in tables),
        uses=_table(uses, stride, window),
    )


def _transposed(facts: AxisFacts, outputs: range, is_endless: bool = False) -> _Weights:
    """For each position of the map, the weight of each output that reads it; an endless map needs no padding."""
    taps, stride, padding, mode, size = facts
    found: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for output in outputs:
        for place, tap in enumerate(taps, output * stride - padding[0]):
            if tap and (is_endless or mode != "constant" or 0 <= place < size):
                found[place if is_endless else _copied(place, size, mode)][output] += tap
    return found


def _copied(place: int, size: int, mode: str) -> int:
    """The position in the map that a position of the padded map copies."""
    while mode == "reflect" and size > 1 and not 0 <= place < size:
        place = -place if place < 0 else 2 * (size - 1) - place
    return min(max(place, 0), size - 1)


def _unit(places: _Weights, unit: int, stride: int) -> dict[tuple[int, int], float]:
    """The weights of a unit, by position written and position read, both counted from the unit's first."""
    written = [(i, places.get(unit * stride + i, {})) for i in range(stride)]
    return {(i, output - unit): weight for i, weights in written for output, weight in weights.items()}


def _table(values: Mapping[tuple[int, int], _T], writes: int, window: range) -> tuple[tuple[_T, ...], ...]:
    """The values as rows, one for each position written; zero where there is none."""
    return tuple(tuple(values.get((i, place), 0) for place in window) for i in range(writes))
