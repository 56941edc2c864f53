"""Intervals against scipy and by hand; meters in any order."""

import math

import pytest
import torch

from antialiased_zoo.metrics.intervals import average, share
from antialiased_zoo.metrics.meters import Meter


def noise(count: int, size: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("hits", "n"), [(0, 12), (12, 12), (1, 50), (9113, 10_000), (1, 1)])
def test_share_is_wilsons_interval(hits, n):
    from scipy.stats import binomtest

    expected = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    figure = share([1.0] * hits + [0.0] * (n - hits))
    assert (figure.low, figure.high) == (
        pytest.approx(expected.low, abs=1e-9),
        pytest.approx(expected.high, abs=1e-9),
    )
    assert figure.low <= figure.value <= figure.high
    assert figure.value == hits / n


def test_repeated_trials_on_one_image_prove_nothing_new():
    hits = [1.0] * 30 + [0.0] * 10
    alike, one = share(hits, trials=5), share(hits)
    assert (alike.low, alike.high) == (one.low, one.high)
    # Independent trials do count: images whose shares vary as 5 coin flips would.
    spread = [k / 5 for k, times in enumerate((1, 5, 10, 10, 5, 1)) for _ in range(times)]
    independent = share([1.0] * 80 + [0.0] * 80)
    assert share(spread, 5).high - 0.5 == pytest.approx(independent.high - 0.5, rel=1e-6)
    assert share([0.4] * 10, trials=5).low == pytest.approx(share([1.0] * 20 + [0.0] * 30).low, abs=1e-12)


def test_average_is_the_normal_interval():
    values = noise(1, 8).flatten().double()
    figure, half = average(values.tolist()), 1.959964 * values.std().item() / math.sqrt(len(values))
    assert figure.value == pytest.approx(values.mean().item())
    assert (figure.low, figure.high) == (
        pytest.approx(figure.value - half),
        pytest.approx(figure.value + half),
    )


def test_meters_merge_in_any_order_bit_for_bit():
    rows = noise(50, 3).flatten(1)
    whole, parts = Meter("mean"), [Meter("mean") for _ in range(3)]
    whole.update(rows)
    for part, meter in zip(rows.split(17), parts, strict=True):
        meter.update(part)
    merged = Meter("mean")
    for meter in reversed(parts):
        merged.merge(meter)
    assert merged.figure() == whole.figure()
    assert merged.figures() == whole.figures()
    assert len(whole.figures()) == 27
    assert whole.figures()[3].value == pytest.approx(rows[:, 3].double().mean().item())
