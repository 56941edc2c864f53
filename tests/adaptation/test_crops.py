"""Random crops: every photo in turn, the same whoever asks, shared between processes, skipped without decoding."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from PIL import Image

from antialiased_zoo.adaptation import Augmentation, RandomCrops
from antialiased_zoo.evaluation import CorruptImageError
from antialiased_zoo.weights import Preprocessing

PLAIN, MIXUP = Augmentation(), Augmentation(mixup=1)
FACTS = Preprocessing(resize=16, crop=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


class Plain:
    """Photos of one grey each, its index as the value; they count how often they are decoded."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def image(self, index: int) -> Image.Image:
        self.asked.append(index)
        return Image.new("RGB", (40 + index, 30), (index, index, index))


def take(crops: RandomCrops, count: int) -> list[torch.Tensor]:
    return list(itertools.islice(crops, count))


def test_each_photo_once_a_turn_and_normalised() -> None:
    photos = Plain()
    batches = take(RandomCrops(photos, range(3, 9), FACTS, size=16, batch=4, augmentation=PLAIN), 3)
    assert sorted(photos.asked) == sorted([*range(3, 9)] * 2)
    assert sorted(photos.asked[:6]) == [*range(3, 9)]
    assert photos.asked[:6] != photos.asked[6:]
    values = torch.cat(batches)
    assert values.shape == (12, 3, 16, 16)
    expected = (torch.tensor(photos.asked) / 255 - 0.5) / 0.25
    torch.testing.assert_close(values, expected[:, None, None, None].expand_as(values))


class Damaged(Plain):
    """Only the photos with even numbers can be decoded."""

    def image(self, index: int) -> Image.Image:
        if index % 2:
            raise CorruptImageError(f"cannot decode {index}.jpg")
        return super().image(index)


def test_a_photo_that_cannot_be_decoded_is_replaced() -> None:
    facts = {"size": 16, "batch": 4, "augmentation": PLAIN}
    with pytest.warns(UserWarning, match=r"left out: cannot decode \d\.jpg"):
        found = take(RandomCrops(Damaged(), range(8), FACTS, **facts), 4)
    greys = (torch.cat(found)[:, 0, 0, 0] * 0.25 + 0.5) * 255
    assert set(greys.round().int().tolist()) == {0, 2, 4, 6}
    with pytest.warns(UserWarning, match="left out"):
        again = take(RandomCrops(Damaged(), range(8), FACTS, **facts).skip(2), 2)
    assert torch.equal(torch.stack(again), torch.stack(found[2:]))
    with pytest.warns(UserWarning, match="left out"), pytest.raises(CorruptImageError):
        take(RandomCrops(Damaged(), [1, 3], FACTS, **facts), 1)


def test_the_photos_are_shuffled_once_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for every crop: a million photos take a second."""
    shuffled: list[int] = []
    shuffle = random.Random.shuffle

    def counted(self: random.Random, x: list[int]) -> None:
        shuffled.append(len(x))
        shuffle(self, x)

    monkeypatch.setattr(random.Random, "shuffle", counted)
    take(RandomCrops(Plain(), range(6), FACTS, size=16, batch=4, augmentation=PLAIN), 3)
    assert shuffled == [6, 6]


def test_processes_share_a_batch_and_skipping_decodes_nothing() -> None:
    whole = take(RandomCrops(Plain(), range(5), FACTS, 16, batch=4, augmentation=MIXUP), 4)
    shares = [
        take(RandomCrops(Plain(), range(5), FACTS, 16, batch=4, augmentation=MIXUP, rank=rank, world=2), 4)
        for rank in (0, 1)
    ]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert torch.equal(batch[0::2], parts[0])
        assert torch.equal(batch[1::2], parts[1])
    photos = Plain()
    (last,) = take(RandomCrops(photos, range(5), FACTS, 16, batch=4, augmentation=MIXUP).skip(1).skip(2), 1)
    assert torch.equal(last, whole[3])
    assert len(photos.asked) == 8


def test_crops_are_squares_of_the_stated_sizes_and_half_are_flipped() -> None:
    ramp = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (100, 1, 3))

    class Ramp:
        def image(self, index: int) -> Image.Image:
            return Image.fromarray(ramp)

    crops = torch.cat(take(RandomCrops(Ramp(), [0], FACTS, 20, batch=50, smallest=0.4, augmentation=PLAIN), 4))
    values = (crops * 0.25 + 0.5) * 255
    slope = (values[:, 0, 10, 14] - values[:, 0, 10, 4]) / 10  # pixels of the photo in one of the crop
    sides = slope.abs() * 20
    assert 38 < sides.min() < 45
    assert 92 < sides.max() < 102
    assert 0.35 < float((slope < 0).float().mean()) < 0.65
    assert len(set(values[:, 0, 10, 10].round().tolist())) > 50  # from everywhere


def test_mixed_crops_lie_between_their_two_photos() -> None:
    photos = Plain()
    crops = torch.cat(take(RandomCrops(photos, [0, 100], FACTS, 16, batch=50, augmentation=Augmentation(mixup=0.5)), 4))
    values = (crops[:, 0, 8, 8] * 0.25 + 0.5) * 255
    between = ((values > 1) & (values < 99)).float().mean()
    assert 0.15 < float(between) < 0.35  # half are mixed, half of these with the other photo
    assert len(set(values.round().tolist())) > 20
    assert values.min() > -0.01
    assert values.max() < 100.01


def test_workers_give_the_same_batches_and_leave_torchs_numbers_alone() -> None:
    before = torch.random.get_rng_state()
    alone = take(RandomCrops(Plain(), range(5), FACTS, 16, batch=4), 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    helped = take(RandomCrops(Plain(), range(5), FACTS, 16, batch=4, workers=2), 3)
    assert torch.equal(torch.cat(alone), torch.cat(helped))


GOOD = {"photos": Plain(), "indices": [0], "preprocessing": FACTS, "size": 16, "batch": 4, "world": 2}


@pytest.mark.parametrize("wrong", [{"batch": 3}, {"indices": []}, {"smallest": 0.0}, {"smallest": 1.5}])
def test_bad_arguments(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="need photos, a batch that 2 processes can share"):
        RandomCrops(**{**GOOD, **wrong})
