"""A measured figure with its 95% interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Figure:
    """A mean over images and the ends of its 95% interval.

    Attributes:
        value: The mean; a share lies in 0..1.
        n: Images that it is a mean over.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    n: int
    low: float
    high: float

    def times(self, factor: float) -> Figure:
        """Returns the figure in another unit, for example ``times(100)`` for percent."""
        return Figure(self.value * factor, self.n, self.low * factor, self.high * factor)

    def as_dict(self) -> dict[str, float]:
        """Returns the four fields by name, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}] (n={self.n})"


def share(values: Sequence[float], trials: int = 1) -> Figure:
    """Returns the mean of per-image shares with Wilson's score interval.

    With one trial an image this is the textbook interval of ``sum(values)`` hits in ``len(values)``. Several
    trials on one image are not independent: the interval then uses the number of independent trials that
    would vary as much as the images' shares do (the design effect).

    Args:
        values: Each image's share of hits, 0..1.
        trials: Trials behind each of the values.

    Raises:
        ValueError: No values.

    Example:
        >>> str(share([1] * 9 + [0]).times(100))
        '90.00 [59.58, 98.21] (n=10)'
    """
    mean, variance = _moments(values)
    count = len(values)
    spread = mean * (1 - mean)
    independent = spread / variance if variance > 0 else math.inf
    effective = count * min(independent, trials) if 0 < mean < 1 else count
    scale = 1 + Z95**2 / effective
    middle = (mean + Z95**2 / (2 * effective)) / scale
    half = Z95 / scale * math.sqrt(max(spread, 0.0) / effective + (Z95 / (2 * effective)) ** 2)
    # Rounding must not push an end past the value itself, nor out of 0..1.
    return Figure(mean, count, max(0.0, min(middle - half, mean)), min(1.0, max(middle + half, mean)))


def average(values: Sequence[float]) -> Figure:
    """Returns the mean of one number per image with its normal interval (a point for a single image).

    Raises:
        ValueError: No values.

    Example:
        >>> average([1.0, 2.0, 3.0]).value
        2.0
    """
    mean, variance = _moments(values)
    count = len(values)
    half = Z95 * math.sqrt(variance / (count - 1)) if count > 1 else 0.0
    return Figure(mean, count, mean - half, mean + half)


def _moments(values: Sequence[float]) -> tuple[float, float]:
    """Returns mean and population variance; fsum makes both independent of the values' order."""
    if not values:
        raise ValueError("no values to average: update the meter with at least one image first")
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((value - mean) ** 2 for value in values) / len(values)
