"""One axis of a map at a time: its blur and its dense maximum, written into given memory, and both transposed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

# Where memory is contiguous along an axis, a product with the banded matrix beats strided reads up to this length.
_BAND_MAX = 112


@dataclass(frozen=True)
class Run:
    """Consecutive outputs that read evenly spaced inputs through one and the same tap."""

    tap: int
    out: slice
    source: slice


def padded_indices(n: int, pad: tuple[int, int], mode: str) -> Tensor:
    """For each position of the padded axis the position it copies; ``n`` stands for a constant."""
    i = torch.arange(-pad[0], n + pad[1], device="cpu")
    if mode == "constant":
        return torch.where((i < 0) | (i >= n), n, i)
    if mode == "replicate":
        return i.clamp(0, n - 1)
    period = max(2 * (n - 1), 1)
    i = i % period
    return torch.minimum(i, period - i) if n > 1 else i


def _sources(n: int, taps: int, dilation: int, stride: int, pad: tuple[int, int], mode: str) -> Tensor:
    """The ``(out, taps)`` positions that each output reads."""
    return padded_indices(n, pad, mode).unfold(0, (taps - 1) * dilation + 1, stride)[:, ::dilation]


def _runs(sources: Tensor, n: int, stride: int) -> list[Run]:
    """The runs of `_sources` in the taps' order, without the constant."""
    found = []
    for tap, column in enumerate(sources.T.tolist()):
        breaks = [i for i in range(1, len(column)) if n in column[i - 1 : i + 1] or column[i] != column[i - 1] + stride]
        for start, stop in itertools.pairwise([0, *breaks, len(column)]):
            if column[start] != n:
                found.append(Run(tap, slice(start, stop), slice(column[start], column[stop - 1] + 1, stride)))
    return found


def _at(x: Tensor, axis: int, where: slice) -> Tensor:
    return x[(slice(None),) * axis + (where,)]


def _is_contiguous_along(x: Tensor, axis: int) -> bool:
    return axis == x.dim() - 1 and x.is_contiguous()


@dataclass(frozen=True, eq=False)
class AxisBlur:
    """Pads, filters and subsamples one axis of ``n`` values to ``out``.

    Elsewhere than along contiguous memory, each tap is one vectorised pass over the map and borders cost a row each.
    """

    axis: int
    n: int
    out: int
    taps: tuple[float, ...]
    sources: Tensor
    runs: tuple[Run, ...]

    def apply(self, source: Tensor, out: Tensor) -> None:
        """Write the blurred axis of ``source`` into ``out``."""
        if self._takes_band(source, out):
            torch.mm(source.view(-1, self.n), self._band(out.dtype).T, out=out.view(-1, self.out))
            return
        first, *rest = self.runs
        if first.out.stop - first.out.start == self.out:
            torch.mul(_at(source, self.axis, first.source), self.taps[first.tap], out=out)
        else:
            out.zero_()
            rest = list(self.runs)
        for run in rest:
            _at(out, self.axis, run.out).add_(_at(source, self.axis, run.source), alpha=self.taps[run.tap])

    def transpose(self, grad: Tensor, out: Tensor) -> None:
        """Write into ``out`` the gradient of the source, given the result's."""
        if self._takes_band(grad, out):
            torch.mm(grad.view(-1, self.out), self._band(out.dtype), out=out.view(-1, self.n))
            return
        out.zero_()
        for run in self.runs:
            _at(out, self.axis, run.source).add_(_at(grad, self.axis, run.out), alpha=self.taps[run.tap])

    def _takes_band(self, source: Tensor, out: Tensor) -> bool:
        contiguous = _is_contiguous_along(source, self.axis) and _is_contiguous_along(out, self.axis)
        return contiguous and self.n <= _BAND_MAX

    def _band(self, dtype: torch.dtype) -> Tensor:
        """The ``(out, n)`` matrix of the axis."""
        return self._bands[dtype == torch.float64]

    @cached_property
    def _bands(self) -> tuple[Tensor, Tensor]:
        """In single and in double precision."""
        with torch.inference_mode(False), torch.no_grad():  # an inference tensor could not be used in training later
            weight = torch.tensor(self.taps, dtype=torch.float64, device="cpu").expand(self.sources.shape)
            band = torch.zeros(self.out, self.n + 1, dtype=torch.float64, device="cpu")
            band = band.scatter_add_(1, self.sources, weight)[:, : self.n].contiguous()  # column n gathers zero padding
            return band.float(), band


@lru_cache(maxsize=256)
def axis_blur(axis: int, n: int, taps: tuple[float, ...], stride: int, pad: tuple[int, int], mode: str) -> AxisBlur:
    """The blur of an axis, its run that covers most outputs first."""
    with torch.inference_mode(False):
        sources = _sources(n, len(taps), 1, stride, pad, mode)
    runs = sorted(_runs(sources, n, stride), key=lambda run: run.out.start - run.out.stop)
    return AxisBlur(axis, n, len(sources), taps, sources, tuple(runs))


@dataclass(frozen=True, eq=False)
class AxisMax:
    """The dense maximum along one axis; of equal values the first counts, as in torch's pools."""

    axis: int
    n: int
    out: int
    runs: tuple[Run, ...]

    def apply(self, source: Tensor, out: Tensor, takes: Sequence[Tensor] | None = None) -> None:
        """Write the maxima into ``out``, and for each run after the first into ``takes`` a 1 where it raised them."""
        whole = len(self.runs) > 1 and all(run.out.stop - run.out.start == self.out for run in self.runs[:2])
        so_far = _at(source, self.axis, self.runs[0].source) if whole else out.fill_(-torch.inf)
        for i, run in enumerate(self.runs[whole:], start=int(whole)):
            value, largest = _at(source, self.axis, run.source), _at(out, self.axis, run.out)
            before = _at(so_far, self.axis, run.out)
            if takes is not None and i:
                torch.gt(value, before, out=takes[i - 1])
            torch.maximum(before, value, out=largest)
            so_far = out

    def empty_takes(self, out: Tensor) -> list[Tensor]:
        """Memory for the ``takes`` of `apply`: as numbers, for torch's masked operations are many times slower."""
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
        """Add each maximum's gradient to its place in ``out``; ``grad`` is used up."""
        out.zero_()
        for run, take in zip(self.runs[:0:-1], takes[::-1], strict=True):
            left, target = _at(grad, self.axis, run.out), _at(out, self.axis, run.source)
            if run is self.runs[-1]:
                taken = torch.mul(left, take, out=target)
            else:
                taken = left * take
                target.add_(taken)
            left.sub_(taken)
        for run in self.runs[:1]:
            _at(out, self.axis, run.source).add_(_at(grad, self.axis, run.out))


@lru_cache(maxsize=256)
def axis_max(axis: int, n: int, size: int, dilation: int, pad: tuple[int, int]) -> AxisMax:
    """The maximum over a window of ``size`` on an axis; padding is never the maximum."""
    with torch.inference_mode(False):
        sources = _sources(n, size, dilation, 1, pad, "constant")
    return AxisMax(axis, n, len(sources), tuple(_runs(sources, n, 1)))
