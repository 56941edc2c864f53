"""The dense maximum along one axis of a map, written into a given tensor, and its gradient."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor

from ..padding import padded_indices


@dataclass(frozen=True)
class Run:
    """A run of consecutive outputs, each of which reads the input at one offset of its window."""

    out: slice
    source: slice


def _runs(sources: Tensor, n: int) -> list[Run]:
    """The runs of ``(out, size)`` positions that each output reads, in the window's order; ``n`` is padding."""
    found = []
    for column in sources.T.tolist():
        breaks = [i for i in range(1, len(column)) if n in column[i - 1 : i + 1] or column[i] != column[i - 1] + 1]
        for start, stop in itertools.pairwise([0, *breaks, len(column)]):
            if column[start] != n:
                found.append(Run(slice(start, stop), slice(column[start], column[stop - 1] + 1)))
    return found


def _at(x: Tensor, axis: int, where: slice) -> Tensor:
    return x[(slice(None),) * axis + (where,)]


def _outside(part: slice, n: int) -> list[slice]:
    """The slices of ``n`` positions that a part leaves out, at each end."""
    return [outside for outside in (slice(0, part.start), slice(part.stop, n)) if outside.start < outside.stop]


def _start_minus_stop(run: Run) -> int:
    return cast(int, run.out.start - run.out.stop)


@dataclass(frozen=True, eq=False)
class AxisMax:
    """The dense maximum along one axis; of equal values the first counts, as in torch's pools."""

    axis: int
    n: int
    out: int
    runs: tuple[Run, ...]

    def apply(
        self, source: Tensor, out: Tensor, takes: Sequence[Tensor] | None = None, takes_only: bool = False
    ) -> None:
        """Write the maxima into ``out``, and for each run after the first into ``takes`` a 1 where it raised them.

        With ``takes_only`` the last step, which nothing but ``out`` needs, is left undone.
        """
        # The longest first, so that no -inf need be written below it; only who raises a maximum
        # depends on the order.
        runs = sorted(self.runs, key=_start_minus_stop) if takes is None else self.runs
        first, *later = runs
        raised: Sequence[Tensor | None] = takes if takes is not None else [None] * len(later)
        if later and first.out == slice(0, self.out):
            so_far = _at(source, self.axis, first.source)
            for outside in _outside(later[0].out, self.out):
                _at(out, self.axis, outside).copy_(_at(so_far, self.axis, outside))
        else:
            so_far, later, raised = out.fill_(-torch.inf), [*runs], [None, *raised]
        for run, take in zip(later, raised, strict=True):
            value, largest = _at(source, self.axis, run.source), _at(out, self.axis, run.out)
            before = _at(so_far, self.axis, run.out)
            if take is not None:
                torch.gt(value, before, out=take)
            if not (takes_only and run is later[-1]):
                torch.maximum(before, value, out=largest)
            so_far = out

    def empty_takes(self, out: Tensor) -> list[Tensor]:
        """Memory for the ``takes`` of `apply`: numbers, since torch's masked operations are many times slower."""
        return [torch.empty_like(_at(out, self.axis, run.out)) for run in self.runs[1:]]

    def select(self, source: Tensor, out: Tensor, takes: Sequence[Tensor]) -> None:
        """Write the values of ``source`` at the maxima's places into ``out``."""
        out.zero_()
        for run in self.runs[:1]:
            _at(out, self.axis, run.out).copy_(_at(source, self.axis, run.source))
        for run, take in zip(self.runs[1:], takes, strict=True):
            chosen = _at(out, self.axis, run.out)
            chosen.copy_(torch.where(take > 0, _at(source, self.axis, run.source), chosen))

    def transpose(self, grad: Tensor, out: Tensor, takes: Sequence[Tensor]) -> None:
        """Write each maximum's gradient to its place in ``out``; ``grad`` is used up."""
        first, *later = self.runs
        written = later[-1].source if later else slice(0, 0)
        for outside in _outside(written, self.n):
            _at(out, self.axis, outside).zero_()
        for run, take in zip(reversed(later), reversed(takes), strict=True):
            left, target = _at(grad, self.axis, run.out), _at(out, self.axis, run.source)
            if run is later[-1]:
                taken = torch.mul(left, take, out=target)
            else:
                taken = left * take
                target.add_(taken)
            left.sub_(taken)
        _at(out, self.axis, first.source).add_(_at(grad, self.axis, first.out))


@lru_cache(maxsize=256)
def axis_max(axis: int, n: int, size: int, dilation: int, pad: tuple[int, int]) -> AxisMax:
    """The maximum over a window of ``size`` on an axis; padding is never the maximum."""
    with torch.inference_mode(False):
        windows = padded_indices(n, pad, "constant").unfold(0, (size - 1) * dilation + 1, 1)
        return AxisMax(axis, n, len(windows), tuple(_runs(windows[:, ::dilation], n)))
