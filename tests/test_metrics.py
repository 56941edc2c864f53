"""The measures against hand calculation, re-enacted protocols, scipy and scikit-image."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from antialiased_zoo import metrics
from antialiased_zoo.intervals import average, share
from antialiased_zoo.meters import Meter
from antialiased_zoo.shifts import crop, draw_pairs, draw_paper_pairs, roll


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


# Offsets


def philox4x64(counter: list[int], key: int) -> list[int]:
    """Philox-4x64-10 as its authors define it (Salmon et al. 2011, and Random123's constants)."""
    mask, (low_key, high_key) = 2**64 - 1, (key, 0)
    x = list(counter)
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
        x = [(second >> 64) ^ x[1] ^ low_key, second & mask, (first >> 64) ^ x[3] ^ high_key, first & mask]
        low_key, high_key = (low_key + 0x9E3779B97F4A7C15) & mask, (high_key + 0xBB67AE8584CAA73B) & mask
    return x


@pytest.mark.parametrize("offsets", [range(32), range(-3, 3), range(-32, 32)])
def test_draws_are_the_counter_based_generators(offsets):
    drawn = draw_pairs(torch.tensor([0, 7, 49_999]), offsets, pairs=2, seed=3, stream=1)
    for row, index in zip(drawn, (0, 7, 49_999), strict=True):
        raw = philox4x64([1, 0, 1, index], 3) + philox4x64([2, 0, 1, index], 3)
        expected = [offsets[((word >> 32) * len(offsets)) >> 32] for word in raw]
        assert row.flatten().tolist() == expected


def test_draws_depend_on_seed_stream_and_index_alone():
    everything = draw_pairs(torch.arange(64), range(32))
    shuffled = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        torch.cat([draw_pairs(part, range(32)) for part in shuffled.split(7)]), everything[shuffled]
    )
    assert not torch.equal(draw_pairs(torch.arange(64), range(32), seed=1), everything)
    assert not torch.equal(draw_pairs(torch.arange(64), range(32), stream=1), everything)


def test_draws_are_uniform():
    drawn = draw_pairs(torch.arange(20_000), range(-3, 3))
    counts = torch.stack([(drawn == value).sum(0) for value in range(-3, 3)]).double()
    chi_square = ((counts - 20_000 / 6) ** 2 / (20_000 / 6)).sum(0)
    # 5 degrees of freedom: 25.7 has a probability of 1e-4 for each of the four coordinates.
    assert chi_square.shape == (1, 2, 2)
    assert chi_square.max() < 25.7


@pytest.mark.parametrize(("offsets", "batch", "images"), [(range(32), 8, 20), (range(-3, 3), 3, 7)])
def test_paper_draws_repeat_the_scripts_calls(offsets, batch, images):
    drawn = draw_paper_pairs(images, offsets, batch, passes=2, generator=np.random.RandomState(4))
    np.random.seed(4)
    expected = torch.empty(images, 2, 2, 2, dtype=torch.long)
    for repeat in range(2):
        for start in range(0, images, batch):
            for member in range(2):
                pair = np.random.randint(offsets.start, offsets.stop, size=2)
                expected[start : start + batch, repeat, member] = torch.from_numpy(pair)
    assert torch.equal(drawn, expected)


def test_crop_and_roll_are_slices_and_torch_roll():
    images, places = noise(4, 12), torch.tensor([[0, 0], [4, 1], [2, 4], [3, 3]])
    for image, cropped, rolled, (row, column) in zip(
        images, crop(images, places, 8), roll(images, places - 2), places.tolist(), strict=True
    ):
        assert torch.equal(cropped, image[:, row : row + 8, column : column + 8])
        assert torch.equal(rolled, torch.roll(image, (row - 2, column - 2), (1, 2)))


def test_crop_outside_the_image_says_so():
    with pytest.raises(ValueError, match="leaves images of 12x12"):
        crop(noise(1, 12), torch.tensor([[5, 0]]), 8)


# Consistency and stability


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
    # The exact one-sided end of Wilson's interval for n of n hits: n / (n + z^2).
    assert figure.low == pytest.approx(50 / (50 + 1.959964**2), abs=1e-6)
    assert len(model(images).argmax(1).unique()) > 1


def test_a_model_of_one_pixel_scores_what_probability_says():
    classes, count = 4, 4000
    generator = torch.Generator().manual_seed(0)
    field = F.one_hot(torch.randint(classes, (count, 39, 39), generator=generator), classes).permute(
        0, 3, 1, 2
    )
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
                answers = [
                    model(image[None, :, y : y + 32, x : x + 32]).argmax() for y, x in ((a, b), (c, d))
                ]
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


# Intervals and meters


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


# Feature distance and generation stability


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.second = nn.Conv2d(5, 6, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu()).relu()


@pytest.mark.parametrize("size", [16, 18])
def test_feature_distance_is_that_of_the_repeated_maps(size):
    model, images = TwoLayers(), noise(2, size)
    layers, rows, columns = ["first", "second"], [0, 1, 3], [-1, 4]
    distances = metrics.feature_distance(model, images, layers, rows, columns)

    def features(x):
        first = model.first(x)
        return {"first": first, "second": model.second(first.relu())}

    def full_size(feature):
        return F.interpolate(feature, (size, size), mode="nearest")

    for (i, down), (j, right) in itertools.product(enumerate(rows), enumerate(columns)):
        moved = features(torch.roll(images, (down, right), (2, 3)))
        for layer in layers:
            still = torch.roll(full_size(features(images)[layer]), (down, right), (2, 3))
            expected = (1 - F.cosine_similarity(still, full_size(moved[layer]), dim=1)).mean((1, 2))
            torch.testing.assert_close(distances[layer][:, i, j], expected, rtol=0, atol=2e-6)
    assert distances["second"].min() > 0.001


def test_feature_distance_is_zero_at_the_stride():
    circular = nn.Conv2d(3, 5, 3, stride=4, padding=1, padding_mode="circular")
    distances = metrics.feature_distance(nn.Sequential(circular), noise(1, 16), ["0"], [0, 2, 4], [8])["0"][
        0, :, 0
    ]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert distances[2] == pytest.approx(0, abs=1e-6)
    assert distances[1] > 0.01


def test_silent_features_are_equal_features():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    nn.init.constant_(model[0].bias, -100)
    assert metrics.feature_distance(model, noise(1, 4), ["1"], [1], [1])["1"].item() == 0


def test_feature_distance_names_what_is_missing():
    with pytest.raises(ValueError, match=r"no layers named \['third'\].*first, second"):
        metrics.feature_distance(TwoLayers(), noise(1, 16), ["third"], [0], [0])
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    with pytest.raises(ValueError, match=r"layer 1 gave no"):
        metrics.feature_distance(model, noise(1, 4), ["1"], [0], [0])


def test_psnr_is_scikit_images():
    skimage_metrics = pytest.importorskip("skimage.metrics")
    first, second = noise(2, 8).numpy(), noise(2, 8, seed=2).numpy()
    expected = [
        skimage_metrics.peak_signal_noise_ratio(a, b, data_range=2)
        for a, b in zip(first, second, strict=True)
    ]
    measured = metrics.psnr(torch.from_numpy(first), torch.from_numpy(second), data_range=2)
    assert measured.tolist() == pytest.approx(expected, rel=1e-5)


def test_generation_stability():
    generator = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2))
    images = noise(2, 8)
    stability = metrics.generation_stability(generator, images, [(0, 2), (1, 0)], data_range=4, border=1)
    assert torch.isinf(stability[:, 0]).all()
    moved = generator(torch.roll(images, (1, 0), (2, 3)))
    expected = torch.roll(generator(images), (1, 0), (2, 3))
    error = (moved - expected)[:, :, 1:-1, 1:-1].square().mean((1, 2, 3))
    torch.testing.assert_close(stability[:, 1], 10 * torch.log10(16 / error))
    with pytest.raises(ValueError, match="as large as the inputs"):
        metrics.generation_stability(nn.AvgPool2d(2), images, [(0, 1)])
