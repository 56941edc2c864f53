"""Quantiles of the beta and of Student's t distribution, so that intervals need no scipy."""

from __future__ import annotations

import functools
import math

_TINY = 1e-300


def beta_cdf(x: float, a: float, b: float) -> float:
    """Returns the regularised incomplete beta function, by its continued fraction (DLMF 8.17.22).

    Args:
        x: In 0..1.
        a: Above 0, not necessarily an integer.
        b: Like a.

    Example:
        >>> round(beta_cdf(0.5, 3, 3), 12)
        0.5
    """
    if not 0 < x < 1:
        return min(max(x, 0.0), 1.0)
    # Above the mean the fraction converges slowly: use the symmetry.
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) / (a * _fraction(x, a, b))


def _fraction(x: float, a: float, b: float) -> float:
    """Evaluates 1 + d1 / (1 + d2 / (1 + ...)) by Lentz's method."""
    value = numerator = 1.0
    denominator = 0.0
    for step in range(1, 100_000):
        half = step // 2
        if step % 2:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        denominator = 1 / (1 + term * denominator or _TINY)
        numerator = 1 + term / numerator or _TINY
        value *= numerator * denominator
        if abs(numerator * denominator - 1) < 1e-15:
            break
    return value


def beta_quantile(share: float, a: float, b: float) -> float:
    """Returns a quantile of the beta distribution, by bisection.

    Example:
        >>> round(beta_quantile(0.5, 2, 2), 9)
        0.5
    """
    low, high = 0.0, 1.0
    while high - low > 1e-14 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if beta_cdf(middle, a, b) < share else (low, middle)
    return (low + high) / 2


@functools.lru_cache
def t_quantile(freedom: float) -> float:
    """Returns the 97.5% quantile of Student's t distribution with ``freedom`` degrees of freedom.

    Example:
        >>> round(t_quantile(9), 4)
        2.2622
    """
    # t ** 2 = freedom * (1 - x) / x, where x is beta-distributed and 5% of it lies below the
    # quantile.
    x = beta_quantile(0.05, freedom / 2, 0.5)
    return math.sqrt(freedom * (1 - x) / x)
