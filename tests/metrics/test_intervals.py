"""Intervals against scipy and by hand; meters in any order."""

import math

import numpy as np
import pytest
import torch

from antialiased_zoo.metrics.distributions import beta_cdf, beta_quantile, t_quantile
from antialiased_zoo.metrics.intervals import average, share, share_difference
from antialiased_zoo.metrics.meters import Meter


def noise(count: int, size: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("hits", "n"), [(0, 12), (12, 12), (1, 50), (9113, 10_000), (1, 1)])
def test_share_is_the_exact_interval(hits, n):
    from scipy.stats import binomtest

    expected = binomtest(hits, n).proportion_ci(0.95, method="exact")
    figure = share([1.0] * hits + [0.0] * (n - hits))
    assert (figure.low, figure.high) == (
        pytest.approx(expected.low, abs=1e-9),
        pytest.approx(expected.high, abs=1e-9),
    )
    assert figure.low <= figure.value <= figure.high
    assert figure.value == hits / n


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (1, 30), (3.7, 5.2), (40_000, 10_000)])
def test_quantiles_are_scipys(a, b):
    from scipy.stats import beta, t

    for share_below in (0.025, 0.3, 0.975):
        x = beta_quantile(share_below, a, b)
        assert x == pytest.approx(beta.ppf(share_below, a, b), rel=1e-9)
        assert beta_cdf(x, a, b) == pytest.approx(share_below, abs=1e-9)
    assert t_quantile(a) == pytest.approx(t.ppf(0.975, a), rel=1e-8)


def test_repeated_trials_on_one_image_prove_little_new():
    from scipy.stats import beta, t

    hits = [1.0] * 30 + [0.0] * 10
    alike, one = share(hits, trials=5), share(hits)
    assert alike.low < one.low <= alike.value <= one.high < alike.high
    # Images whose shares vary as 5 coin flips would, over 32: 160 trials, less what a variance from 32 images costs.
    spread = [k / 5 for k, times in enumerate((1, 5, 10, 10, 5, 1)) for _ in range(times)]
    trials = 160 * 31 / 32 * (t.ppf(0.975, 159) / t.ppf(0.975, 31)) ** 2
    assert share(spread, 5).high == pytest.approx(beta.ppf(0.975, trials / 2 + 1, trials / 2), rel=1e-9)


def test_average_is_students_interval():
    from scipy.stats import t

    values = noise(1, 3).flatten().double().sigmoid()
    figure, low, high = (
        average(values.tolist()),
        *t.interval(0.95, len(values) - 1, values.mean().item(), values.std().item() / math.sqrt(len(values))),
    )
    assert figure.value == pytest.approx(values.mean().item())
    assert (figure.low, figure.high) == (pytest.approx(low), pytest.approx(high))
    assert (average([0.3]).low, average([0.3]).high) == (0, 1)


@pytest.mark.parametrize("trials", [2, 5, 8])
def test_several_trials_an_image_are_korn_and_graubards_interval(trials):
    """Their formula, with the survey variance of the mean of a sample of images: over n - 1."""
    from scipy.stats import beta, t

    generator = np.random.default_rng(trials)
    rows = generator.binomial(trials, generator.beta(2, 1, 40)) / trials
    mean, n = rows.mean(), len(rows)
    effective = mean * (1 - mean) / (rows.var(ddof=1) / n)  # independent trials with the same variance
    effective *= (t.ppf(0.975, n * trials - 1) / t.ppf(0.975, n - 1)) ** 2
    hits, misses = mean * effective, (1 - mean) * effective
    figure = share(rows.tolist(), trials)
    assert figure.low == pytest.approx(beta.ppf(0.025, hits, misses + 1))
    assert figure.high == pytest.approx(beta.ppf(0.975, hits + 1, misses))


def test_share_difference_is_bonett_and_prices_interval():
    # 40 images: the second model gains 7 and loses 2; by the paper's formula.
    gains, losses, n = 7, 2, 40
    figure = share_difference([1.0] * gains + [-1.0] * losses + [0.0] * (n - gains - losses))
    p, q = (gains + 1) / (n + 2), (losses + 1) / (n + 2)
    half = 1.959964 * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    assert figure.value == (gains - losses) / n
    assert (figure.low, figure.high) == (pytest.approx(p - q - half), pytest.approx(p - q + half))


def test_numbers_outside_the_limits_have_no_interval():
    for figure, values in ((share, [1.0, 87.5]), (average, [120.0, 130.0]), (share_difference, [0.0, -2.0])):
        with pytest.raises(ValueError, match=r"expected numbers from -?[01] to 1, got"):
            figure(values)
    assert average([120.0, 130.0], 0, 200).value == 125


def test_meters_merge_in_any_order_bit_for_bit():
    rows = noise(50, 3).flatten(1).sigmoid()
    whole, parts = Meter("mean"), [Meter("mean") for _ in range(3)]
    whole.update(rows)
    for part, meter in zip(rows.split(17), parts, strict=True):
        meter.update(part)
    merged = Meter("mean")
    for meter in reversed(parts):
        merged.merge(meter)
    assert merged.figure() == whole.figure()
    assert merged.means() == whole.means()
    assert len(whole.means()) == 27
    assert whole.means()[3] == pytest.approx(rows[:, 3].double().mean().item())
