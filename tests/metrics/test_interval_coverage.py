"""How often each interval covers the truth: exactly where all samples can be listed, by simulation elsewhere."""

import functools

import numpy as np
import pytest
from scipy.stats import binom, multinomial

from antialiased_zoo.metrics import average, share, share_difference

SHARES = np.concatenate([np.linspace(0.5, 0.98, 25), np.linspace(0.985, 0.999, 8)])


@pytest.mark.parametrize("n", [10, 30, 100, 1000])
def test_shares_are_covered_in_at_least_95_percent(n):
    hits = np.arange(0 if n < 1000 else 400, n + 1)
    figures = [share([1.0] * hit + [0.0] * (n - hit)) for hit in hits.tolist()]
    low, high = (np.array([getattr(figure, end) for figure in figures]) for end in ("low", "high"))
    covered = (low <= SHARES[:, None]) & (SHARES[:, None] <= high)
    coverage = (binom.pmf(hits, n, SHARES[:, None]) * covered).sum(1)
    assert coverage.min() >= 0.95 - 1e-9
    # Where ten misses are to be expected, the interval is not wider than it must be either.
    assert coverage[n * (1 - SHARES) >= 10].max(initial=0) <= 0.98


@functools.cache
def paired(gains, losses, n):
    figure = share_difference([1.0] * gains + [-1.0] * losses + [0.0] * (n - gains - losses))
    return figure.low, figure.high


def pairs_of_models():
    """Shares of images that the second model gains and loses: accuracy, difference, and how far the models agree."""
    for accuracy in (0.5, 0.9, 0.99, 0.999):
        for other in (accuracy, accuracy - 0.02, accuracy - 0.1):
            apart, independent = accuracy - other, accuracy * (1 - other) + other * (1 - accuracy)
            for disagreement in np.linspace(apart + 1e-4, independent, 3):
                yield (disagreement - apart) / 2, (disagreement + apart) / 2


@pytest.mark.parametrize("n", [10, 30, 100, 1000])
def test_paired_differences_are_covered_in_at_least_93_percent(n):
    generator = np.random.default_rng(n)
    for gain, loss in pairs_of_models():
        chances = [gain, loss, 1 - gain - loss]
        if n <= 30:
            counts = np.array([(a, b) for a in range(n + 1) for b in range(n + 1 - a)])
            weights = multinomial.pmf(np.c_[counts, n - counts.sum(1)], n, chances)
        else:
            counts, times = np.unique(generator.multinomial(n, chances, 800)[:, :2], axis=0, return_counts=True)
            weights = times / 800
        ends = np.array([paired(a, b, n) for a, b in counts.tolist()])
        covered = (ends[:, 0] <= gain - loss) & (gain - loss <= ends[:, 1])
        # Three standard errors of a simulation of 800 samples are 2.3 points.
        assert (weights * covered).sum() >= (0.93 if n <= 30 else 0.93 - 0.023), (gain, loss)
        if n * min(gain, loss) >= 10:
            assert (weights * covered).sum() <= 0.975 + 0.017, (gain, loss)


@functools.cache
def several(row, trials):
    """The interval of sorted rows, of which there are few if most images are right."""
    figure = share(row, trials)
    return figure.low, figure.high


# Where docs/metrics.md says that the coverage is lowest, and elsewhere; at the end the strangers' case.
SEVERAL = [
    *((n, trials, 1 - expected / n, icc, 0.93)
      for n, trials, expected, icc in [
          (10, 5, 3, 0.7), (30, 8, 3, 0.7), (100, 8, 3, 0.7), (100, 16, 3, 0.5), (264, 8, 20, 0.5), (300, 5, 3, 0.4),
          (50, 2, 25, 0.05), (100, 5, 20, 0.9), (30, 5, 15, 0.3), (64, 8, 6, 0.9), (1000, 5, 4, 0.6),
      ]),
    *((n, trials, 1 - expected / n, icc, least)
      for n, trials, expected, icc, least in [
          (100, 2, 0.3, 0.05, 0.97), (300, 3, 2.5, 0.6, 0.92), (300, 5, 1.6, 0.6, 0.90), (100, 8, 1.6, 0.6, 0.88),
          (300, 16, 0.7, 0.6, 0.86), (100, 8, 1.0, 0.7, 0.88),
      ]),
]  # fmt: skip


@pytest.mark.parametrize(("n", "trials", "mean", "correlation", "least"), SEVERAL)
def test_several_trials_an_image_are_covered(n, trials, mean, correlation, least):
    """Pairs whose chances vary from image to image, so that those of one image are correlated."""
    generator, samples, spread = np.random.default_rng(n), 400, (1 - correlation) / correlation
    chances = generator.beta(mean * spread, (1 - mean) * spread, (samples, n))
    rows = np.sort(generator.binomial(trials, chances) / trials)
    ends = np.array([several(tuple(row), trials) for row in rows.tolist()])
    coverage = np.mean((ends[:, 0] <= mean) & (mean <= ends[:, 1]))
    assert coverage >= least - 3 * np.sqrt(least * (1 - least) / samples)
    assert (ends[:, 0] < ends[:, 1]).all()


def wobbles(generator, shape, fade):
    """Like the wobble of a good network: most images do not move, a few move a lot."""
    return generator.beta(0.3, 3 * fade, shape), 0.3 / (0.3 + 3 * fade)


@pytest.mark.parametrize(("n", "least"), [(10, 0.86), (30, 0.90), (100, 0.92), (300, 0.93)])
def test_means_and_their_differences_are_covered(n, least):
    generator, samples = np.random.default_rng(n), 300
    rows, mean = wobbles(generator, (samples, n), 1.0)
    others, other_mean = wobbles(generator, (samples, n), 1.3)
    own = [average(row) for row in rows.tolist()]
    changes = [average(row, lowest=-1.0) for row in (others - rows).tolist()]
    error = 3 * np.sqrt(0.05 * 0.95 / samples)
    assert least - error <= np.mean([figure.low <= mean <= figure.high for figure in own]) <= 0.975 + error
    difference = other_mean - mean
    coverage = np.mean([figure.low <= difference <= figure.high for figure in changes])
    assert 0.93 - error <= coverage <= 0.975 + error
