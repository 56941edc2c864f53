"""Functions that put a value's axes in another order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

_SWAPS = ("transpose", "swapaxes", "swapdims")
_MOVES = ("movedim", "moveaxis")
Axis = TypeVar("Axis")


def reordered(name: str, given: Sequence[int], axes: Sequence[Axis]) -> list[Axis]:
    """The axes of a function's value, told from those of its input; empty if the function does something else.

    Args:
        name: The function's name.
        given: The numbers that it is given.
        axes: The input's axes.
    """
    rank = len(axes)
    if not given or not all(-rank <= axis < rank for axis in given):
        return []
    first, *others = dims = [axis % rank for axis in given]
    if name == "permute" and len(dims) == rank:
        return [axes[axis] for axis in dims]
    if name in _SWAPS and len(dims) == 2:
        swapped = {first: others[0], others[0]: first}
        return [axes[swapped.get(axis, axis)] for axis in range(rank)]
    if name in _MOVES and len(dims) == 2:
        rest = [*axes[:first], *axes[first + 1 :]]
        return [*rest[: others[0]], axes[first], *rest[others[0] :]]
    return []
