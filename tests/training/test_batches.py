"""Batches by position: sharing, augmentation, and independence of workers."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_training import CPU, SMALL, make_images
from torchvision.transforms import v2

from antialiased_zoo.evaluation.data import open_images
from antialiased_zoo.training.batches import FileBatches, MemoryBatches, cut_out, epoch_order, resize, shift_and_flip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("data"))


def test_processes_share_an_epoch_without_overlap():
    shares = [epoch_order(23, 6, seed=5, rank=rank, world=3) for rank in range(3)]
    assert [share.shape for share in shares] == [(3, 2)] * 3
    assert len(set(torch.cat(shares).flatten().tolist())) == 18
    whole = epoch_order(23, 6, seed=5)
    assert torch.equal(torch.cat(shares, dim=1), whole)
    assert not torch.equal(whole, epoch_order(23, 6, seed=6))
    with pytest.raises(ValueError, match="fewer than one batch"):
        epoch_order(5, 6, seed=0)
    with pytest.raises(ValueError, match="3 processes"):
        epoch_order(50, 8, seed=0, world=3)


def test_shift_and_flip_is_reflect_padding_crop_and_flip():
    images = torch.rand(5, 3, 9, 7)
    shift = torch.tensor([[0, 0], [2, -2], [-3, 1], [1, 3], [-1, -3]])
    flip = torch.tensor([False, True, False, True, True])
    moved = shift_and_flip(images, shift, flip)
    assert moved.is_contiguous(memory_format=torch.channels_last)
    for image, (down, right), mirrored, result in zip(images, shift.tolist(), flip, moved, strict=True):
        padded = F.pad(image[None], (3, 3, 3, 3), mode="reflect")[0]
        expected = padded[:, 3 - down : 12 - down, 3 - right : 10 - right]
        assert torch.equal(result, expected.flip(-1) if mirrored else expected)


@pytest.mark.parametrize("size", [20, 12, 7])
def test_resize_is_torchvisions(size):
    images = torch.randint(0, 256, (2, 3, 12, 12), dtype=torch.uint8)
    expected = v2.functional.resize(images.float(), [size, size], antialias=True)
    torch.testing.assert_close(resize(images, size), expected, rtol=1e-5, atol=1e-3)


def test_memory_batches_resume_anywhere_and_move_by_at_most_an_eighth(folder):
    images = open_images(folder / "train")
    batches = MemoryBatches(images, SMALL, CPU)
    order = epoch_order(len(images), 8, seed=1)
    whole = list(batches.epoch(order, 16, seed=3))
    for (pixels, targets), (again, same) in zip(whole[2:], batches.epoch(order[2:], 16, seed=3), strict=True):
        assert torch.equal(pixels, again)
        assert torch.equal(targets, same)
    assert not torch.equal(whole[0][0], next(batches.epoch(order, 16, seed=4))[0])
    still = v2.functional.normalize(resize(batches.pixels[order[0]], 16) / 255, list(SMALL.mean), list(SMALL.std))
    shifts = [(d, r, f) for d in range(-2, 3) for r in range(-2, 3) for f in (False, True)]
    for one, moved in zip(still, whole[0][0], strict=True):
        variants = (shift_and_flip(one[None], torch.tensor([[d, r]]), torch.tensor([f]))[0] for d, r, f in shifts)
        assert any(torch.allclose(moved, variant, atol=1e-5) for variant in variants)


def test_cut_out_blanks_one_square_that_the_border_may_cut():
    images = torch.rand(3, 2, 8, 10).add(0.5).to(memory_format=torch.channels_last)
    whole = images.clone()
    cut_out(images, 4, torch.tensor([[4, 5], [0, 9], [7, 0]]))
    # A square of 4 begins 2 before its centre.
    for image, before, (rows, columns) in zip(
        images,
        whole,
        [(slice(2, 6), slice(3, 7)), (slice(0, 2), slice(7, 10)), (slice(5, 8), slice(0, 2))],
        strict=True,
    ):
        before[:, rows, columns] = 0
        assert torch.equal(image, before)


def test_cutout_changes_nothing_else(folder):
    images = open_images(folder / "train")
    order = epoch_order(len(images), 8, seed=1)
    plain, cut = (
        next(MemoryBatches(images, SMALL, CPU, cutout=share).epoch(order, 16, seed=3))[0] for share in (0, 0.25)
    )
    blank = (cut == 0).all(1)
    assert torch.equal(torch.where(blank[:, None], plain, cut), plain)
    squares = {tuple(rows.sum(axis).max().item() for axis in (0, 1)) for rows in blank}
    assert max(max(square) for square in squares) == 4
    assert len({rows.nonzero()[0].tolist().__str__() for rows in blank}) > 1


def test_file_batches_do_not_depend_on_workers_or_batches(folder):
    images = open_images(folder / "train")
    rows = torch.tensor([[3, 17], [30, 2]])
    alone = list(FileBatches(images, SMALL, CPU).epoch(rows, 10, seed=1))
    for (pixels, targets), (others, labels) in zip(
        alone, FileBatches(images, SMALL, CPU, workers=2).epoch(rows, 10, seed=1), strict=True
    ):
        assert pixels.shape == (2, 3, 10, 10)
        assert torch.equal(pixels, others)
        assert torch.equal(targets, labels)
    regrouped = next(FileBatches(images, SMALL, CPU).epoch(rows.flip(0, 1).reshape(1, 4), 10, seed=1))
    assert torch.equal(regrouped[0][1], alone[1][0][0])
    assert not torch.equal(next(FileBatches(images, SMALL, CPU).epoch(rows, 10, seed=2))[0], alone[0][0])


def test_loading_leaves_the_global_generator_alone(folder):
    batches = FileBatches(open_images(folder / "train"), SMALL, CPU)
    state = torch.get_rng_state()
    for _ in batches.whole(4):
        pass
    for _ in batches.epoch(torch.arange(8).view(2, 4), 12, seed=1):
        pass
    assert torch.equal(torch.get_rng_state(), state)


def test_validation_images_are_shared_out_once(folder):
    batches = FileBatches(open_images(folder / "val"), SMALL, CPU)
    shares = [list(batches.whole(4, rank, 3)) for rank in range(3)]
    assert sum(len(targets) for share in shares for _, targets in share) == len(batches) == 14
    together = torch.cat([pixels for pixels, _ in batches.whole(250)])
    assert torch.equal(torch.cat([pixels for pixels, _ in shares[1]]), together[1::3])
    assert torch.equal(together[0], SMALL.build()(batches.images.image(0)))


def test_pad_crop_refuses_images_of_different_sizes(tmp_path):
    (tmp_path / "a").mkdir()
    for name, size in (("1.png", (8, 8)), ("2.png", (9, 8))):
        Image.new("RGB", size).save(tmp_path / "a" / name)
    with pytest.raises(ValueError, match=r"a/2.png is 9x8.*resized-crop"):
        MemoryBatches(open_images(tmp_path), SMALL, CPU)
