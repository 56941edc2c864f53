"""Batches whose content depends only on the seed, the epoch and the position.

No random generator carries state from batch to batch, so a run can resume at any batch, and the
images drawn do not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm.auto import tqdm

from ..errors import warn
from ..evaluation import CorruptImageError, ImageFiles, torch_seed
from ..weights import Preprocessing

_TRIES = 10  # if as many images in a row cannot be decoded, something else is wrong


def epoch_order(samples: int, batch: int, seed: int, rank: int = 0, world: int = 1) -> Tensor:
    """Returns one process's share of a shuffled epoch, int64 ``(steps, batch // world)``.

    The images of an incomplete last batch are dropped.

    Raises:
        ValueError: There are fewer samples than one batch, or the batch cannot be divided equally
            among the processes.
    """
    if samples < batch:
        raise ValueError(f"{samples} images are fewer than one batch of {batch}; lower the batch size")
    if batch % world:
        raise ValueError(f"a batch of {batch} cannot be divided among {world} processes; give a multiple")
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(torch_seed(seed)))
    steps = samples // batch
    return order[: steps * batch].view(steps, world, batch // world)[:, rank]


class MemoryBatches:
    """Images of one size, decoded once, kept in memory and augmented as tensors (``pad-crop``).

    Images that cannot be decoded are left out, with a warning that names each.

    Args:
        images: The data; all images must have the same size.
        preprocessing: The normalisation.
        device: Device of the pixels (3 bytes each) and the batches.
        cutout: See :class:`~antialiased_zoo.training.recipes.Recipe`.
        hide_bar: tqdm's ``disable`` for the bar while decoding.

    Raises:
        ValueError: The images have different sizes.
    """

    def __init__(
        self,
        images: ImageFiles,
        preprocessing: Preprocessing,
        device: torch.device,
        cutout: float = 0.0,
        hide_bar: bool | None = True,
    ) -> None:
        self.cutout = cutout
        pixels, kept = decode_all(images, hide_bar)
        self.pixels = pixels.to(device)
        self.targets = torch.tensor([images.targets[index] for index in kept], device=device)
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.targets)

    def epoch(self, order: Tensor, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields augmented batches.

        Args:
            order: Sample indices, int64 ``(batches, batch)``.
            size: Image size in pixels.
            seed: Seed of the augmentation, combined with each batch's first index.
        """
        reach = size // 8
        for rows in order:
            draw = _draws(rows, seed, 2 * reach + 1, size).to(self.pixels.device)
            rows = rows.to(self.pixels.device)
            moved = shift_and_flip(resize(self.pixels[rows], size), draw[:, :2] - reach, draw[:, 2] == 1)
            batch = normalise(moved, self.preprocessing)
            if self.cutout:
                cut_out(batch, round(self.cutout * size), draw[:, 3:])
            yield batch, self.targets[rows]


class FileBatches:
    """Images decoded on demand by worker processes (``resized-crop``), for data sets of any size.

    A warning names each image that cannot be decoded. In training the next one takes its place, so that the
    batches depend on the data only; in validation it is left out.

    Args:
        images: The data; its transform is ignored.
        preprocessing: Normalisation of all batches; resize and crop of validation batches.
        device: Device of the batches.
        workers: Number of worker processes; 0 decodes in this process.

    Attributes:
        broken: The images that could not be decoded so far, in this process's batches.
    """

    def __init__(
        self, images: ImageFiles, preprocessing: Preprocessing, device: torch.device, workers: int = 0
    ) -> None:
        self.images, self.preprocessing, self.device, self.workers = images, preprocessing, device, workers
        self.broken: set[str] = set()

    def __len__(self) -> int:
        return len(self.images)

    def epoch(self, order: Tensor, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields augmented batches; an image's augmentation depends only on ``seed`` and its index.

        Args:
            order: Sample indices, int64 ``(batches, batch)``.
            size: Image size in pixels.
            seed: Seed of the augmentation.

        Raises:
            CorruptImageError: Many images in a row cannot be decoded.
        """
        from torchvision.transforms import v2

        augment = v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip(), v2.PILToTensor()])
        for images, targets in self._load(_Seeded(self.images, augment, seed, _TRIES), order.tolist()):
            if len(targets) < order.shape[1]:
                raise CorruptImageError(f"{_TRIES} images in a row of {self.images.source} cannot be decoded")
            yield normalise(images, self.preprocessing), targets

    def whole(self, batch: int, rank: int = 0, world: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields batches of every ``world``-th image, starting at ``rank``, resized and centre-cropped."""
        dataset = _Seeded(self.images, self.preprocessing.build(), 0)
        for images, targets in self._load(dataset, _shares(len(self), batch, rank, world)):
            if len(targets):
                yield images, targets

    def _load(self, dataset: _Seeded, batches: Sequence[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        pin = self.device.type == "cuda"
        own = torch.Generator()  # since the loader would draw a number from torch's
        facts: dict[str, Any] = {"num_workers": self.workers, "pin_memory": pin, "generator": own}
        for images, targets, errors in DataLoader(dataset, batch_sampler=batches, collate_fn=_collate, **facts):
            for error in errors:
                if str(error) not in self.broken:
                    self.broken.add(str(error))
                    warn(f"left out: {error}")
            yield images.to(self.device, non_blocking=pin), targets.to(self.device, non_blocking=pin)


_Item = tuple[Any, int, list[CorruptImageError]]


def _collate(items: list[_Item]) -> tuple[Tensor, Tensor, list[CorruptImageError]]:
    """A batch of the images that could be decoded, and all errors, of which the main process warns."""
    good = [(image, target) for image, target, _ in items if image is not None]
    images, targets = default_collate(good) if good else (torch.empty(0), torch.empty(0, dtype=torch.int64))
    return images, targets, [error for _, _, errors in items for error in errors]


class _Seeded(Dataset[_Item]):
    """Images with a random transform that depends only on the seed and the image's index, and their errors.

    The next image takes the place of one that cannot be decoded, up to ``tries`` in all; then the place is None.
    """

    def __init__(self, images: ImageFiles, transform: Callable[[Any], Any], seed: int, tries: int = 1) -> None:
        self.images, self.transform, self.seed, self.tries = images, transform, seed, tries

    def __getitem__(self, index: int) -> _Item:
        errors: list[CorruptImageError] = []
        for place in range(index, index + self.tries):
            place %= len(self.images)
            try:
                image = self.images.image(place)
            except CorruptImageError as error:
                errors.append(error)
                continue
            # torchvision's transforms use the global generator, which the training loop uses too.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(torch_seed(self.seed * 1_000_003 + index))
                return self.transform(image), self.images.targets[place], errors
        return None, -1, errors


def _shares(samples: int, batch: int, rank: int, world: int) -> list[list[int]]:
    mine = list(range(rank, samples, world))
    return [mine[start : start + batch] for start in range(0, len(mine), batch)]


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Normalises ``(N, 3, H, W)`` values of 0..255 to float32 with about zero mean and unit variance."""
    mean = torch.tensor(preprocessing.mean, device=images.device).view(3, 1, 1) * 255
    std = torch.tensor(preprocessing.std, device=images.device).view(3, 1, 1) * 255
    return (images.float() - mean) / std


def decode_all(images: ImageFiles, hide_bar: bool | None = True) -> tuple[Tensor, list[int]]:
    """Decodes every image into one uint8 tensor ``(N, 3, H, W)``; a warning names each that cannot be decoded.

    Returns:
        The tensor, and the indices of its images.

    Raises:
        CorruptImageError: None of the images can be decoded.
        ValueError: The images have different sizes.
    """
    kept: list[int] = []
    pixels = torch.empty(0)
    for index in tqdm(range(len(images)), desc="decode", disable=hide_bar, leave=False):
        try:
            image = images.image(index)
        except CorruptImageError as error:
            warn(f"left out: {error}")
            last = error
            continue
        width, height = image.size
        if not kept:
            pixels = torch.empty(len(images), height, width, 3, dtype=torch.uint8)
        if (height, width) != pixels.shape[1:3]:
            raise ValueError(
                f"{images.samples[index]} is {width}x{height}, but {images.samples[kept[0]]} is "
                f"{pixels.shape[2]}x{pixels.shape[1]}; pad-crop needs images of the same size, use resized-crop"
            )
        content = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        pixels[len(kept)] = content.view(height, width, 3)
        kept.append(index)
    if not kept:
        raise last
    return pixels[: len(kept)].permute(0, 3, 1, 2), kept


def resize(images: Tensor, size: int) -> Tensor:
    """Resizes uint8 ``(N, 3, H, W)`` bilinearly to a square of float32 values 0..255."""
    shrinks = size < max(images.shape[-2:])
    return F.interpolate(images.float(), (size, size), mode="bilinear", antialias=shrinks)


def shift_and_flip(images: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
    """Shifts each image by an integer number of pixels with reflected borders, then flips some horizontally.

    Args:
        images: ``(N, C, H, W)``.
        shift: ``(N, 2)`` integers, down and right, smaller than the image.
        flip: ``(N,)`` booleans.

    Returns:
        ``(N, C, H, W)`` in channels-last memory: the same as reflect padding, a crop and a flip.
    """
    count, _, height, width = images.shape
    rows = _mirror(torch.arange(height, device=images.device) - shift[:, :1], height)
    columns = torch.arange(width, device=images.device).expand(count, -1)
    columns = torch.where(flip[:, None], width - 1 - columns, columns)
    columns = _mirror(columns - shift[:, 1:], width)
    image = torch.arange(count, device=images.device)[:, None, None]
    picked = images.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def _mirror(index: Tensor, size: int) -> Tensor:
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def cut_out(images: Tensor, side: int, centre: Tensor) -> None:
    """Sets a square in each image to zero, in place (cutout); zero is the mean colour of normalised images.

    Args:
        images: ``(N, C, H, W)``.
        side: Side of the square in pixels; the square may reach outside the image.
        centre: ``(N, 2)`` integers, row and column.
    """
    inside = []
    for axis, length in enumerate(images.shape[2:]):
        distance = torch.arange(length, device=images.device) - centre[:, axis, None] + side // 2
        inside.append((distance >= 0) & (distance < side))
    images.masked_fill_((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.0)


def _draws(rows: Tensor, seed: int, offsets: int, size: int) -> Tensor:
    """Returns random integers ``(N, 5)`` for a batch: two below ``offsets``, a flip, two below ``size``."""
    generator = torch.Generator().manual_seed(torch_seed(seed * 1_000_003 + int(rows[0])))
    shift = torch.randint(offsets, (len(rows), 2), generator=generator)
    flip = torch.randint(2, (len(rows), 1), generator=generator)
    return torch.cat([shift, flip, torch.randint(size, (len(rows), 2), generator=generator)], dim=1)
