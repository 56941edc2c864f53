"""The dense (stride 1) maximum along one axis of a map, and its gradient, written into given tensors."""

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
    """Consecutive outputs, and the consecutive inputs that they read at one offset of the window."""

    out: slice
    source: slice


def _runs(sources: Tensor, n: int) -> list[Run]:
    """Split the ``(out, size)`` input positions of the windows into runs, offset by offset; ``n`` marks padding."""
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
    """The slices of ``n`` positions before and after ``part``, without empty ones."""
    return [outside for outside in (slice(0, part.start), slice(part.stop, n)) if outside.start < outside.stop]


def _start_minus_stop(run: Run) -> int:
    return cast(int, run.out.start - run.out.stop)


@dataclass(frozen=True, eq=False)
class AxisMax:
    """The dense maximum along one axis; of equal values the first is taken, as in torch's pools."""

    axis: int
    n: int
    out: int
    runs: tuple[Run, ...]

    def apply(
        self, source: Tensor, out: Tensor, masks: Sequence[Tensor] | None = None, masks_only: bool = False
    ) -> None:
        """Write the maxima into ``out``; for each run after the first, write into ``masks`` a 1 where it raises them.

        With ``masks_only`` the last update of ``out`` is skipped, since the masks do not need it.
        """
        # Longest first, so that ``out`` need not be filled with -inf first. The order changes only
        # the masks, never the maxima.
        runs = sorted(self.runs, key=_start_minus_stop) if masks is None else self.runs
        first, *later = runs
        raised: Sequence[Tensor | None] = masks if masks is not None else [None] * len(later)
        if later and first.out == slice(0, self.out):
            so_far = _at(source, self.axis, first.source)
            for outside in _outside(later[0].out, self.out):
                _at(out, self.axis, outside).copy_(_at(so_far, self.axis, outside))
        else:
            so_far, later, raised = out.fill_(-torch.inf), [*runs], [None, *raised]
        for run, mask in zip(later, raised, strict=True):
            value, largest = _at(source, self.axis, run.source), _at(out, self.axis, run.out)
            before = _at(so_far, self.axis, run.out)
            if mask is not None:
                torch.gt(value, before, out=mask)
            if not (masks_only and run is later[-1]):
                torch.maximum(before, value, out=largest)
            so_far = out

    def empty_masks(self, out: Tensor) -> list[Tensor]:
        """Memory for the masks of `apply`: floats, since torch's boolean masking is many times slower."""
        return [torch.empty_like(_at(out, self.axis, run.out)) for run in self.runs[1:]]

    def select(self, source: Tensor, out: Tensor, masks: Sequence[Tensor]) -> None:
        """Write the values of ``source`` at the positions of the maxima into ``out``."""
        out.zero_()
        for run in self.runs[:1]:
            _at(out, self.axis, run.out).copy_(_at(source, self.axis, run.source))
        for run, mask in zip(self.runs[1:], masks, strict=True):
            chosen = _at(out, self.axis, run.out)
            chosen.copy_(torch.where(mask > 0, _at(source, self.axis, run.source), chosen))

    def transpose(self, grad: Tensor, out: Tensor, masks: Sequence[Tensor]) -> None:
        """Write each maximum's gradient to its position in ``out``; ``grad`` is overwritten."""
        first, *later = self.runs
        written = later[-1].source if later else slice(0, 0)
        for outside in _outside(written, self.n):
            _at(out, self.axis, outside).zero_()
        for run, mask in zip(reversed(later), reversed(masks), strict=True):
            left, target = _at(grad, self.axis, run.out), _at(out, self.axis, run.source)
            if run is later[-1]:
                taken = torch.mul(left, mask, out=target)
            else:
                taken = left * mask
                target.add_(taken)
            left.sub_(taken)
        _at(out, self.axis, first.source).add_(_at(grad, self.axis, first.out))


@lru_cache(maxsize=256)
def axis_max(axis: int, n: int, size: int, dilation: int, pad: tuple[int, int]) -> AxisMax:
    """The maximum over a window of ``size`` on an axis of length ``n``; padding is never the maximum."""
    with torch.inference_mode(False):
        windows = padded_indices(n, pad, "constant").unfold(0, (size - 1) * dilation + 1, 1)
        return AxisMax(axis, n, len(windows), tuple(_runs(windows[:, ::dilation], n)))
