"""The measures against hand calculation, re-enacted protocols, scipy and scikit-image."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from without_float64 import WithoutFloat64

from antialiased_zoo import metrics
from antialiased_zoo.metrics.meters import Meter
from antialiased_zoo.metrics.shifts import draw_pairs, draw_paper_pairs


def aliased_model(classes: int = 5) -> nn.Module:
    """A strided network with batch norm, whose answer depends on shifts."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 64, 3, stride=4, bias=False),
        # Without a spread over channels the biases would choose one class for every image.
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(64),
        nn.Linear(64, classes, bias=False),
    )


def invariant_model() -> nn.Module:
    """Circular, stride 1, global pooling: equivariant and then invariant to every roll."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 6, 3, padding=1, padding_mode="circular")
    return nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).double()


def noise(count: int, size: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_paper_mode_repeats_the_published_loop():
    model, images = aliased_model().eval(), noise(20, 56)
    np.random.seed(9)
    agreed = total = 0.0
    with torch.no_grad():
        for _ in range(5):
            for batch in images.split(8):
                off0, off1 = np.random.randint(32, size=2), np.random.randint(32, size=2)
                first = model(batch[:, :, off0[0] : off0[0] + 24, off0[1] : off0[1] + 24])
                second = model(batch[:, :, off1[0] : off1[0] + 24, off1[1] : off1[1] + 24])
                agreed += 100.0 * (first.argmax(1) == second.argmax(1)).sum().item()
                total += len(batch)
    drawn = draw_paper_pairs(20, generator=np.random.RandomState(9))
    measured = metrics.crop_consistency(model, images, size=24, offsets=drawn).times(100)
    assert 40 < measured.value < 99
    assert measured.value == pytest.approx(agreed / total, abs=1e-9)


def test_an_invariant_model_is_fully_consistent():
    model, images = invariant_model(), noise(50, 12).double()
    figure = metrics.circular_consistency(model, images)
    assert (figure.value, figure.n, figure.high) == (1.0, 50, 1.0)
    # The exact end of the interval for n of n hits: where n hits have a chance of 2.5%.
    assert figure.low == pytest.approx(0.025 ** (1 / 50), abs=1e-9)
    assert len(model(images).argmax(1).unique()) > 1


def test_a_model_of_one_pixel_scores_what_probability_says():
    classes, count = 4, 4000
    generator = torch.Generator().manual_seed(0)
    field = F.one_hot(torch.randint(classes, (count, 39, 39), generator=generator), classes).permute(0, 3, 1, 2)
    crop_figure = metrics.crop_consistency(lambda x: x[:, :, 2, 2].float(), field, size=8)
    roll_figure = metrics.circular_consistency(lambda x: x[:, :, 2, 2].float(), field[:, :, :32, :32])
    for figure, places in ((crop_figure, 32 * 32), (roll_figure, 32 * 32)):
        expected = 1 / places + (1 - 1 / places) / classes
        assert abs(figure.value - expected) < 4 * math.sqrt(expected * (1 - expected) / count)


def test_consistency_by_hand_and_its_batches():
    model, images = aliased_model().eval(), noise(30, 40)
    drawn = draw_pairs(torch.arange(30), range(8), pairs=2, seed=5)
    agreed = 0
    with torch.no_grad():
        for image, pairs in zip(images, drawn.tolist(), strict=True):
            for (a, b), (c, d) in pairs:
                answers = [model(image[None, :, y : y + 32, x : x + 32]).argmax() for y, x in ((a, b), (c, d))]
                agreed += bool(answers[0] == answers[1])
    sizes = [metrics.crop_consistency(model, images, 32, drawn, batch_size=size) for size in (1, 7, 64)]
    assert sizes[0].value == pytest.approx(agreed / 60)
    assert sizes[0] == sizes[1] == sizes[2]
    assert 0.2 < sizes[0].value < 1


def test_diagonal_stability_by_hand():
    model, images = aliased_model(), noise(3, 32)
    result = metrics.diagonal_stability(
        model, images, torch.tensor([1, 0, 4]), size=20, batch_size=5, offsets=range(13)
    )
    assert model.training
    expected = torch.empty(3, 13, dtype=torch.float64)
    with torch.no_grad():
        wide = aliased_model().eval().double()
        for (row, target), shift in itertools.product(enumerate((1, 0, 4)), range(13)):
            part = images[row : row + 1, :, shift : shift + 20, shift : shift + 20].double()
            expected[row, shift] = wide(part).softmax(1)[0, target]
    torch.testing.assert_close(result.probability.double(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(result.wobble.double(), expected.amax(1) - expected.amin(1), rtol=0, atol=2e-6)
    assert result.prediction.shape == (3, 13)
    default = metrics.diagonal_stability(model, images[:1], size=20, offsets=range(13))
    middle = int(default.prediction[0, 6])
    assert torch.equal(
        default.probability, metrics.diagonal_stability(model, images[:1], middle, 20, range(13)).probability
    )


def test_a_module_keeps_its_modes():
    model = aliased_model()
    model[1].eval()
    metrics.accuracy(model, noise(4, 24), torch.zeros(4, dtype=torch.long))
    assert model.training
    assert not model[1].training
    assert model[1].num_batches_tracked == 0


# Pure functions


@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_k_is_a_rank(k):
    logits = noise(4, 5)[:, 0]
    targets = torch.tensor([0, 4, 2, 1, 3]).repeat(4)
    rank = (logits.reshape(-1, 5) > logits.reshape(-1, 5).gather(1, targets[:, None])).sum(1)
    assert torch.equal(metrics.top_k_correct(logits.reshape(-1, 5), targets, k), rank < k)


def test_equal_logits_agree_with_argmax():
    logits = torch.zeros(3, 4)
    assert torch.equal(metrics.top_k_correct(logits, logits.argmax(1)), torch.ones(3, dtype=torch.bool))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.top_k_correct(torch.zeros(1, 3), torch.tensor([0]), 5), "top-5 of 3 classes"),
        (lambda: metrics.top_k_correct(torch.zeros(1, 3), torch.tensor([3])), "has 3 classes"),
        (lambda: metrics.flip_rate(torch.zeros(3, 1)), "frames >= 2"),
        (lambda: metrics.flip_rate(torch.zeros(3, 2), "last"), "'previous' or 'first'"),
        (
            lambda: metrics.crop_consistency(aliased_model(), noise(2, 32), 24, torch.zeros(1, 1, 2, 2)),
            "expected offsets",
        ),
        (lambda: draw_pairs(torch.arange(3), range(0)), "need offsets"),
        (lambda: draw_paper_pairs(0), "at least 1"),
        (lambda: Meter().figure(), "no values"),
    ],
)
def test_errors_instruct(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("against", ["previous", "first"])
def test_flip_rate_is_the_benchmarks_loop(against):
    clips = torch.randint(3, (6, 9), generator=torch.Generator().manual_seed(0))
    for clip, rate in zip(clips.tolist(), metrics.flip_rate(clips, against).tolist(), strict=True):
        flips, previous = [], clip[0]
        for frame in clip[1:]:
            flips.append(frame != previous)
            previous = frame if against == "previous" else previous
        assert rate == pytest.approx(sum(flips) / len(flips))


def test_a_device_without_float64_gives_the_same_figures():
    images = torch.randn(5, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    model = aliased_model().eval()

    def elsewhere(x):
        return model(x).as_subclass(WithoutFloat64)

    for measure in (metrics.crop_consistency, metrics.circular_consistency):
        options = {"size": 9} if measure is metrics.crop_consistency else {}
        assert measure(elsewhere, images, **options) == measure(model, images, **options)
    predictions = model(images.repeat(2, 1, 1, 1)).argmax(1).view(2, 5)
    rates = metrics.flip_rate(predictions.as_subclass(WithoutFloat64))
    assert rates.dtype is torch.float64
    assert torch.equal(rates, metrics.flip_rate(predictions))


def test_meters_take_numbers_of_images_only():
    meter, other = Meter(), Meter()
    meter.update(torch.ones(3))
    for values, message in (
        (torch.ones(2, 3), r"got \(2, 3\) after \(3,\)"),
        (torch.ones(2, 3, 4), r"got \(2, 3, 4\)"),
        (torch.tensor(1.0), r"got \(\)"),
        (torch.tensor([1.0, math.nan]), "is NaN"),
        (torch.tensor([1.0, 87.5]), r"takes numbers from 0 to 1, got 87\.5: divide percent by 100"),
    ):
        with pytest.raises(ValueError, match=message):
            meter.update(values)
    other.update(torch.ones(1))  # which was compared with every image of the first
    with pytest.raises(ValueError, match="3 and 1 images: a paired difference needs the same ones"):
        meter.difference(other)
