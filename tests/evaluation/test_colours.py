"""Every way from an image file to a network shows the same colours, whatever the number of bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from antialiased_zoo.evaluation import cifar, open_images, read_photo
from antialiased_zoo.evaluation.images import CorruptImageError
from antialiased_zoo.weights import Preprocessing

LEVELS = (np.arange(4096).reshape(64, 64) * 16).astype(np.uint16)
EIGHT = LEVELS // 257  # 65,535 is white
PLAIN = Preprocessing(64, 64, mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "class" / "clip"
    place.mkdir(parents=True)
    Image.fromarray(LEVELS).save(place / "grey.png")
    Image.fromarray(LEVELS).save(place / "grey.tif")
    return tmp_path


def test_sixteen_bits_are_scaled_wherever_images_are_read(folder):
    images = open_images(folder)
    for number in range(2):
        for image in (images[number][0], read_photo(folder / images.samples[number])):
            assert image.mode == "RGB"
            assert np.array_equal(np.asarray(image), np.stack([EIGHT] * 3, 2))


def test_preprocessing_takes_images_of_sixteen_bits(folder):
    image = Image.open(folder / "class" / "clip" / "grey.png")
    expected = torch.from_numpy(EIGHT / 255).float()
    torch.testing.assert_close(PLAIN.build()(image), expected.expand(3, 64, 64), check_stride=False)
    torch.testing.assert_close(PLAIN.for_channels(1).build()(image), expected[None])
    assert torch.equal(cifar(PLAIN).prepare(image)[0], torch.from_numpy(EIGHT).byte())
    assert PLAIN.build_training()(image).shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [(LEVELS.astype(np.float32), "floating-point"), (LEVELS.astype(np.int32) * 100, "not of 16 bits")],
)
def test_values_of_unknown_range_are_refused(pixels, message, tmp_path):
    (tmp_path / "class").mkdir()
    Image.fromarray(pixels).save(tmp_path / "class" / "odd.tif")
    with pytest.raises(CorruptImageError, match=message):
        open_images(tmp_path)[0]
    with pytest.raises(ValueError, match=message):
        PLAIN.build()(Image.fromarray(pixels))
