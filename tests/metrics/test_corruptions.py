"""Corruptions against their formulas and Pillow; ImageNet-C and -P sums against published figures and by hand."""

import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from antialiased_zoo.evaluation.reports import result_notes
from antialiased_zoo.evaluation.robustness import Predictions, imagenet_c, imagenet_p
from antialiased_zoo.metrics.consistency import flip_rate
from antialiased_zoo.metrics.corruptions import (
    ALEXNET_ERRORS,
    CORRUPTIONS,
    SEVERITIES,
    corrupt,
    corruption_error,
    corruption_folders,
    mean_corruption_error,
)
from antialiased_zoo.weights.preprocessing import Preprocessing


def photo(size: int = 64) -> torch.Tensor:
    """A smooth picture with some texture, uint8 (3, size, size)."""
    rows = torch.linspace(40, 200, size)
    texture = torch.randint(-20, 20, (3, size, size), generator=torch.Generator().manual_seed(0))
    return (rows[None, :, None] + texture).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_repeat_and_grow(name):
    image = photo(224)
    distances = []
    for severity in SEVERITIES:
        changed = corrupt(image, name, severity, index=5, seed=1)
        assert changed.dtype == torch.uint8
        assert changed.shape == image.shape
        assert torch.equal(changed, corrupt(image, name, severity, index=5, seed=1))
        distances.append((changed.float() - image.float()).square().mean().item())
    assert distances[0] > 1
    assert distances[0] < distances[2] < distances[4]


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise"])
def test_noise_is_another_for_each_image_and_seed(name):
    image = photo()
    changed = [corrupt(image, name, 3, index, seed) for index, seed in ((0, 0), (1, 0), (0, 1))]
    assert not torch.equal(changed[0], changed[1])
    assert not torch.equal(changed[0], changed[2])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_order_in_memory_changes_nothing(name):
    image = photo()
    colours_last = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(corrupt(image, name, 3), corrupt(colours_last, name, 3))


def test_noise_has_its_deviation():
    grey = torch.full((3, 200, 200), 128, dtype=torch.uint8)
    gaussian = (corrupt(grey, "gaussian_noise", 1).double() - 128) / 255
    assert gaussian.std().item() == pytest.approx(0.08, rel=0.02)
    assert gaussian.mean().item() == pytest.approx(0, abs=0.002)
    # A Poisson count of mean m varies by m: the value's deviation is sqrt(value / photons).
    shot = corrupt(grey, "shot_noise", 1).double() / 255
    assert shot.std().item() == pytest.approx((128 / 255 / 60) ** 0.5, rel=0.03)


def test_jpeg_is_pillows():
    image = photo()
    encoded = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(encoded, "JPEG", quality=10)
    expected = torch.from_numpy(np.asarray(Image.open(encoded)).copy()).permute(2, 0, 1)
    assert torch.equal(corrupt(image, "jpeg_compression", 4), expected)


def test_blur_is_the_gaussian_of_scipy():
    from scipy.ndimage import gaussian_filter

    image = photo(112)
    # Severity 3 is 3 pixels at 224, so 1.5 here; scipy's "mirror" is torch's "reflect".
    expected = gaussian_filter(image.numpy().astype(float), (0, 1.5, 1.5), mode="mirror", truncate=4)
    assert np.abs(corrupt(image, "gaussian_blur", 3).numpy() - expected).max() <= 0.51


def test_brightness_and_contrast_by_hand():
    image = photo()
    brighter = (image.double() * 1.4).clamp(max=255)
    assert (corrupt(image, "brightness", 2).double() - brighter).abs().max() <= 1
    grey = (0.2989 * image[0].double() + 0.587 * image[1].double() + 0.114 * image[2].double()).floor().mean()
    flatter = 0.2 * image.double() + 0.8 * grey
    assert (corrupt(image, "contrast", 3).double() - flatter).abs().max() <= 1


def test_errors_instruct():
    with pytest.raises(ValueError, match="no corruption 'fog' at severity 1; there are gaussian_noise"):
        corrupt(photo(), "fog", 1)
    with pytest.raises(ValueError, match="at severity 6"):
        corrupt(photo(), "contrast", 6)
    with pytest.raises(ValueError, match="expected a uint8 image"):
        corrupt(photo().float(), "contrast", 1)
    with pytest.raises(ValueError, match="got 4"):
        corruption_error([0.1] * 4)
    with pytest.raises(ValueError, match="only the errors or only the baseline have fog"):
        mean_corruption_error({"snow": 0.5}, {"snow": 0.5, "fog": 0.5})


def test_mce_of_published_errors():
    # torchvision's ResNet-50: published top-1 accuracy and normalised corruption error of nine corruptions.
    published = {
        "brightness": (68.02, 56.64),
        "contrast": (39.06, 71.43),
        "defocus_blur": (38.75, 74.71),
        "elastic_transform": (45.25, 84.75),
        "fog": (45.83, 66.11),
        "frost": (38.14, 74.84),
        "gaussian_noise": (29.29, 79.77),
        "glass_blur": (26.79, 88.61),
        "impulse_noise": (23.81, 82.58),
    }
    for name, (accuracy, normalised) in published.items():
        errors = {name: 1 - accuracy / 100}
        measured = 100 * mean_corruption_error(errors, {name: ALEXNET_ERRORS[name]})
        assert measured == pytest.approx(normalised, abs=0.011)
    assert mean_corruption_error(ALEXNET_ERRORS, ALEXNET_ERRORS) == pytest.approx(1)
    assert len(ALEXNET_ERRORS) == 15


class Brightest(nn.Module):
    """Predicts the channel with the largest mean."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


PLAIN = Preprocessing(resize=16, crop=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def save(path, channel: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[..., channel] = 200
    Image.fromarray(pixels).save(path)


def test_imagenet_c_folders(tmp_path):
    wrong = {"fog": (0, 0, 1, 1, 2), "snow": (1, 1, 1, 3, 3)}
    for name, misses in wrong.items():
        for severity, missed in enumerate(misses, start=1):
            for image in range(3):
                place = tmp_path / "weather" / name / str(severity) / "abc"[image]
                save(place / "x.png", (image + 1) % 3 if image < missed else image)
    found = imagenet_c({"brightest": Brightest()}, tmp_path, PLAIN)["brightest"]
    for name, misses in wrong.items():
        assert found["errors"][name] == pytest.approx([100 * missed / 3 for missed in misses])
    assert found["mean_error"] == pytest.approx(100 * (4 / 15 + 9 / 15) / 2)
    assert found["mce"] is None
    assert set(found["missing"]) == set(ALEXNET_ERRORS) - set(wrong)


def test_mce_of_a_whole_imagenet_c(tmp_path):
    # Wrong on one image of three at severity 5 alone: an error of 100 / 15 percent for every corruption.
    for name, severity, image in itertools.product(ALEXNET_ERRORS, SEVERITIES, range(3)):
        save(tmp_path / name / str(severity) / "abc"[image] / "x.png", 1 if severity == 5 and image == 0 else image)
    found = imagenet_c({"brightest": Brightest()}, tmp_path, PLAIN)["brightest"]
    assert found["missing"] == []
    assert found["mean_error"] == pytest.approx(100 / 15)
    assert found["mce"] == pytest.approx(100 / 15 * np.mean([1 / error for error in ALEXNET_ERRORS.values()]))
    notes = result_notes("net", {"imagenet_c": found})
    assert notes == [f"net on ImageNet-C: mean error 6.67 (not normalised), mCE {found['mce']:.2f}"]


def test_incomplete_corruption_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="no corruption folders"):
        corruption_folders(tmp_path)
    (tmp_path / "fog" / "1").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"lacks \['2', '3', '4', '5'\]"):
        corruption_folders(tmp_path)


@pytest.mark.parametrize("name", ["translate", "gaussian_noise"])
def test_imagenet_p_folders(tmp_path, name):
    clips = torch.tensor([[0, 0, 1, 0], [2, 2, 2, 2], [0, 1, 2, 2]])
    for clip, frames in enumerate(clips.tolist()):
        for number, channel in enumerate(frames):
            save(tmp_path / name / "class" / f"clip{clip}" / f"{number:03}.png", channel)
    found = imagenet_p({"brightest": Brightest()}, tmp_path, PLAIN)["brightest"]
    expected = 100 * flip_rate(clips, "first" if "noise" in name else "previous").mean().item()
    assert found[name]["value"] == pytest.approx(expected)
    assert found["mean"] == pytest.approx(expected)
    assert found[name]["n"] == 3


def test_predictions_of_other_processes_are_joined():
    parts = [Predictions(), Predictions()]
    for number, part in enumerate(parts):
        part.update(torch.eye(3)[:, None], torch.arange(3) + 3 * number)
    parts[0].merge(parts[1])
    assert parts[0].rows.tolist() == [[0, 0], [1, 1], [2, 2], [3, 0], [4, 1], [5, 2]]


def test_clips_of_one_frame_have_no_flip_rate(tmp_path):
    (tmp_path / "translate" / "class" / "clip").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "translate" / "class" / "clip" / "0.png")
    with pytest.raises(ValueError, match=r"no clip of .*translate has two frames that can be decoded"):
        imagenet_p({"brightest": Brightest()}, tmp_path, PLAIN)
    (tmp_path / "translate" / "class" / "clip" / "0.png").rename(tmp_path / "translate" / "class" / "clip.mp4")
    with pytest.raises(ValueError, match=r"no images in .*translate.*; unpack the MP4s"):
        imagenet_p({"brightest": Brightest()}, tmp_path, PLAIN)
