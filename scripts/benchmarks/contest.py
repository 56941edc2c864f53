"""Contests: contestants take turns in random order, so that a shared machine's load affects all of them alike."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

OURS = "antialiased-zoo"


@dataclass(frozen=True)
class Row:
    """The result of one contest.

    Attributes:
        table: What was measured; rows of the same table share a geometric mean.
        case: What was run.
        unit: Unit of the medians.
        medians: Contestant -> median.
        ratios: Contestant -> (lower quartile, median, upper quartile) of its figure divided by ours; above 1 ours is
            better.
    """

    table: str
    case: str
    unit: str
    medians: Mapping[str, float]
    ratios: Mapping[str, tuple[float, float, float]]


def contest(table: str, case: str, runs: Mapping[str, Callable[[], float]], turns: int, unit: str = "ms") -> Row:
    """Let the contestants take turns; each run returns its own figure."""
    figures: dict[str, list[float]] = {name: [] for name in runs}
    order = random.Random(0)  # random, since caches and heap depend on the previous contestant
    for turn in range(turns + 1):
        for name in order.sample(list(runs), len(runs)):
            figure = runs[name]()
            if turn:  # the first turn warms up
                figures[name].append(figure)
    ratios = {}
    for name, values in figures.items():
        each = [value / max(own, 1e-9) for value, own in zip(values, figures[OURS], strict=True)]
        low, middle, high = statistics.quantiles(each, n=4, method="inclusive") if len(each) > 1 else each * 3
        ratios[name] = (low, middle, high)
    return Row(table, case, unit, {name: statistics.median(values) for name, values in figures.items()}, ratios)


def timed(
    call: Callable[[], Any], device: torch.device, calls: int = 1, before: Callable[[], Any] | None = None
) -> float:
    """Milliseconds per call, the mean of ``calls``; more than one are preceded by as many for warm-up.

    On a GPU, work that takes longer than to launch the calls may be queued ``before`` them: the time to launch them
    then does not count.
    """
    for _ in range(calls if calls > 1 else 0):
        call()
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        if before is not None:
            before()
        start.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / calls
    start_time = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start_time) * 1e3 / calls


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean."""
    return math.exp(statistics.fmean(math.log(max(value, 1e-9)) for value in values))
