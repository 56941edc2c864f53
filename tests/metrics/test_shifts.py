"""Which offsets are drawn, against the generator's definition and the published script; how they are applied."""

import numpy as np
import pytest
import torch

from antialiased_zoo.metrics.shifts import crop, draw_pairs, draw_paper_pairs, roll


def noise(count: int, size: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


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
    assert torch.equal(torch.cat([draw_pairs(part, range(32)) for part in shuffled.split(7)]), everything[shuffled])
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
    with pytest.raises(ValueError, match="reaches outside images of 12x12"):
        crop(noise(1, 12), torch.tensor([[5, 0]]), 8)
