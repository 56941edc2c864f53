"""Random changes of crops: how often, where from, and within which limits."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from antialiased_zoo.adaptation import STRONG, Augmentation


def greys(*values: float) -> Callable[[], Tensor]:
    """Draw crops of one grey each."""
    each = iter(values)
    return lambda: torch.full((3, 30, 30), next(each))


def combined(augmentation: Augmentation, seed: int) -> Tensor:
    return augmentation.combined(torch.zeros(3, 30, 30), greys(1.0, 2.0, 3.0), random.Random(seed))


def test_without_changes_nothing_is_drawn() -> None:
    crop = torch.rand(3, 30, 30)
    assert Augmentation().combined(crop, greys(), random.Random(0)) is crop
    assert Augmentation().jittered(crop, random.Random(0)) is crop
    assert Augmentation().sides(12.4, 20, 30, random.Random(0)) == (12, 12)


def test_mixup_blends_all_pixels_alike() -> None:
    found = torch.stack([combined(Augmentation(mixup=1), seed) for seed in range(200)])
    assert (found == found[:, :1, :1, :1]).all()
    share = found[:, 0, 0, 0]
    assert 0.4 < float(share.mean()) < 0.6
    assert float(share.min()) < 0.1
    assert float(share.max()) > 0.9


def test_cutmix_replaces_a_square_whose_area_is_uniform() -> None:
    found = torch.stack([combined(Augmentation(cutmix=1), seed) for seed in range(400)])
    assert set(found.unique().tolist()) == {0.0, 1.0}
    for crop in found:
        rows, columns = crop[0].any(1).nonzero()[:, 0], crop[0].any(0).nonzero()[:, 0]
        assert len(rows) == len(columns)
        assert crop[0].sum() == len(rows) * len(columns)  # no holes
    areas = found[:, 0].mean((1, 2))
    assert 0.45 < float(areas.mean()) < 0.55
    assert 0.2 < float((areas < 0.25).float().mean()) < 0.32
    assert (found[:, 0].mean(0) > 0.03).all()  # everywhere


def test_a_mosaic_shows_four_whole_crops() -> None:
    ramp = torch.linspace(0, 1, 30).expand(3, 30, 30)
    for seed in range(50):
        image = Augmentation(mosaic=1).combined(ramp, greys(2.0, 3.0, 4.0), random.Random(seed))
        assert abs(float(image[0, 0, -1]) - 2) < 1e-5
        assert abs(float(image[0, -1, 0]) - 3) < 1e-5
        assert abs(float(image[0, -1, -1]) - 4) < 1e-5
        width = int((image[0, 0] < 1.5).sum())
        assert 10 <= width <= 20
        assert float(image[0, 0, 0]) < 0.1  # scaled, not cut
        assert float(image[0, 0, width - 1]) > 0.9


def test_jitter_changes_colours_within_limits() -> None:
    crop = torch.rand(3, 30, 30, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    found = torch.stack([Augmentation(jitter=0.5).jittered(crop, random.Random(seed)) for seed in range(300)])
    same = (found == crop).all((1, 2, 3))
    assert 0.4 < float(same.float().mean()) < 0.6
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    brightness = found[~same].mean((1, 2, 3)) / crop.mean()
    assert 0.55 < float(brightness.min()) < 0.75
    assert 1.25 < float(brightness.max()) < 1.45


def test_stretched_crops_keep_their_area_and_the_limit() -> None:
    sides = [Augmentation(stretch=2).sides(100, 400, 400, random.Random(seed)) for seed in range(500)]
    ratios = torch.tensor([rows / columns for rows, columns in sides])
    assert 0.49 < float(ratios.min()) < 0.55
    assert 1.8 < float(ratios.max()) < 2.05
    assert all(abs(rows * columns / 10_000 - 1) < 0.02 for rows, columns in sides)
    assert all(max(Augmentation(stretch=2).sides(100, 100, 100, random.Random(seed))) <= 100 for seed in range(50))


def test_shares_are_of_the_crops() -> None:
    found = [combined(STRONG, seed) for seed in range(1000)]
    untouched = sum(bool((crop == 0).all()) for crop in found) / 1000
    mosaics = sum(bool((crop > 2.9).any()) for crop in found) / 1000
    assert abs(untouched - 0.3) < 0.05
    assert abs(mosaics - STRONG.mosaic) < 0.04


@pytest.mark.parametrize(
    "wrong", [{"mixup": 1.5}, {"cutmix": -0.1}, {"mixup": 0.6, "mosaic": 0.6}, {"stretch": 0.5}, {"jitter": 2}]
)
def test_bad_shares(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need shares from 0 to 1"):
        Augmentation(**wrong)
