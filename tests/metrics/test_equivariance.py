"""Feature distance and generation stability against the same done at full size, and scikit-image."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from antialiased_zoo import metrics


def noise(count: int, size: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


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
    distances = metrics.feature_distance(nn.Sequential(circular), noise(1, 16), ["0"], [0, 2, 4], [8])["0"][0, :, 0]
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
    with pytest.raises(ValueError, match=r"layer 1 does not return a"):
        metrics.feature_distance(model, noise(1, 4), ["1"], [0], [0])


def test_psnr_is_scikit_images():
    skimage_metrics = pytest.importorskip("skimage.metrics")
    first, second = noise(2, 8).numpy(), noise(2, 8, seed=2).numpy()
    expected = [skimage_metrics.peak_signal_noise_ratio(a, b, data_range=2) for a, b in zip(first, second, strict=True)]
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
