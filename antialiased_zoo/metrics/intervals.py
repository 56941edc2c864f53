"""Measured figures with 95% confidence intervals.

============================  =================================================================================
figure                        interval
============================  =================================================================================
:func:`share`                 Clopper and Pearson 1934; several trials per image: Korn and Graubard 1998
:func:`average`               Student's t
:func:`share_difference`      Bonett and Price 2012
============================  =================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .distributions import beta_quantile, t_quantile


@dataclass(frozen=True)
class Figure:
    """A mean over images with its 95% confidence interval.

    Attributes:
        value: The mean; a share lies in 0..1.
        n: Number of images averaged.
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
    """Returns the mean of per-image shares with an exact interval.

    With one trial per image this is Clopper and Pearson's interval for ``sum(values)`` hits in
    ``len(values)``, which covers any true share in at least 95% of all samples. Several trials on
    the same image are not independent: the interval then uses the effective number of independent
    trials (the design effect), and covers somewhat less if hardly any image has a miss
    (docs/metrics.md says how much).

    Args:
        values: Each image's share of hits, 0..1.
        trials: Number of trials per image.

    Raises:
        ValueError: No values, or one is out of range.

    Example:
        >>> str(share([1] * 9 + [0]).times(100))
        '90.00 [55.50, 99.75] (n=10)'
    """
    mean, variance = _moments(values, 0.0, 1.0)
    effective = _independent_trials(mean, variance, len(values), trials)
    hits, misses = mean * effective, (1 - mean) * effective
    low = beta_quantile(0.025, hits, misses + 1) if mean > 0 else 0.0
    high = beta_quantile(0.975, hits + 1, misses) if mean < 1 else 1.0
    return Figure(mean, len(values), min(low, mean), max(high, mean))


def _independent_trials(mean: float, variance: float, images: int, trials: int) -> float:
    if trials == 1 or images == 1 or not 0 < mean < 1:
        return images
    # The design effect compares the variance of a sample, over images - 1, with that of independent trials.
    variance *= images / (images - 1)
    independent = mean * (1 - mean) / variance if variance > 0 else math.inf
    # Korn and Graubard's correction for the degrees of freedom of the estimated variance.
    correction = (t_quantile(images * trials - 1) / t_quantile(images - 1)) ** 2
    return max(images * min(independent, trials) * correction, 1.0)


def average(values: Sequence[float], lowest: float = 0.0, highest: float = 1.0) -> Figure:
    """Returns the mean of one number per image with Student's interval.

    The interval covers the true mean in 95% of all samples from a normal distribution, and in about
    95% for other distributions with a few dozen images or more.

    Args:
        values: One number per image.
        lowest: Smallest possible number, a limit of the interval.
        highest: Largest possible number, a limit of the interval.

    Raises:
        ValueError: No values, or one is out of range.

    Example:
        >>> str(average([0.1, 0.2, 0.3]))
        '0.20 [0.00, 0.45] (n=3)'
    """
    mean, variance = _moments(values, lowest, highest)
    count = len(values)
    if count == 1:
        return Figure(mean, 1, lowest, highest)
    half = t_quantile(count - 1) * math.sqrt(variance / (count - 1))
    return Figure(mean, count, max(mean - half, lowest), min(mean + half, highest))


def share_difference(values: Sequence[float]) -> Figure:
    """Returns the mean difference of two models' shares on the same images, with Bonett and Price's interval.

    This is the normal interval after adding two pseudo-images, one that only the first model gets
    right and one that only the second gets right, so that it has a width even if the models agree
    on every image.

    Args:
        values: Each image's difference, -1..1.

    Raises:
        ValueError: No values, or one is out of range.

    Example:
        >>> str(share_difference([0.0] * 10).times(100))
        '0.00 [-23.10, 23.10] (n=10)'
    """
    mean, _ = _moments(values, -1.0, 1.0)
    shrunk, variance = _moments([*values, 1.0, -1.0], -1.0, 1.0)
    half = _Z95 * math.sqrt(variance / (len(values) + 2))
    return Figure(mean, len(values), max(min(shrunk - half, mean), -1.0), min(max(shrunk + half, mean), 1.0))


_Z95 = 1.959963984540054  # 97.5% quantile of the normal distribution
ROUNDING = 1e-6  # by which a probability may exceed 1


def _moments(values: Sequence[float], lowest: float, highest: float) -> tuple[float, float]:
    """Returns the mean and the population variance; with fsum they do not depend on the values' order."""
    if not values:
        raise ValueError("no values to average: update the meter with at least one image first")
    for value in values:
        if not lowest - ROUNDING <= value <= highest + ROUNDING:
            raise ValueError(
                f"expected numbers from {lowest:g} to {highest:g}, got {value:g}: divide percent by 100; "
                "average(values, lowest, highest) takes other limits"
            )
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((value - mean) ** 2 for value in values) / len(values)
