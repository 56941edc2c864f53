"""Random crops of unlabelled photos for `distill`, reproducible from the seed and the position."""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from ..errors import warn
from ..evaluation import CorruptImageError
from ..weights import Preprocessing
from .augmentation import STRONG, Augmentation

_TRIES = 10  # if as many photos in a row cannot be decoded, something else is wrong


class Photos(Protocol):
    """Photos by index, such as `antialiased_zoo.evaluation.open_images` returns."""

    def image(self, index: int) -> Image.Image:
        """Decode one photo to RGB; a `CorruptImageError` makes `RandomCrops` draw another one."""


class RandomCrops:
    """Endless batches ``(N, 3, size, size)`` of random crops, resized, augmented, randomly flipped and normalised.

    Each photo is drawn once before any is drawn again. The side of a crop is ``smallest`` to 1 times the photo's
    shorter side, uniform on a logarithmic scale.

    Args:
        photos: The photos.
        indices: Indices of the photos to use.
        preprocessing: Interpolation and normalisation.
        size: Side of the resized crops, in pixels.
        batch: Number of crops in a batch, over all processes.
        smallest: Smallest side of a crop, relative to the photo's shorter side.
        augmentation: Further random changes.
        seed: Seed of all random numbers.
        rank: Rank of this process, which gets every ``world``-th crop.
        world: Number of processes.
        workers: Number of processes that load the photos; the batches do not depend on it.

    Raises:
        ValueError: If there are no photos, or the processes cannot share a batch.

    Source: Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", 2022.

    Example:
        >>> class Grey:
        ...     def image(self, index):
        ...         return Image.new("RGB", (40, 30), (index, index, index))
        >>> next(iter(RandomCrops(Grey(), range(10), Preprocessing(), size=16, batch=4))).shape
        torch.Size([4, 3, 16, 16])
    """

    def __init__(
        self,
        photos: Photos,
        indices: Sequence[int],
        preprocessing: Preprocessing,
        size: int,
        batch: int,
        smallest: float = 0.4,
        augmentation: Augmentation = STRONG,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
    ) -> None:
        if not indices or batch < world or batch % world or not 0 < smallest <= 1:
            raise ValueError(
                f"need photos, a batch that {world} processes can share, and 0 < smallest <= 1; got {len(indices)} "
                f"photos, a batch of {batch}, and {smallest}"
            )
        self.photos, self.indices, self.preprocessing = photos, indices, preprocessing
        self.size, self.batch, self.seed = size, batch, seed
        self.smallest, self.augmentation = smallest, augmentation
        self.rank, self.world, self.workers, self.skipped = rank, world, workers, 0
        self._turn, self._order = -1, list(indices)

    def skip(self, batches: int) -> RandomCrops:
        """A copy that skips a number of batches, without decoding them."""
        later = copy.copy(self)
        later.skipped = self.skipped + batches
        return later

    def __iter__(self) -> Iterator[Tensor]:
        starts = (batch * self.batch for batch in itertools.count(self.skipped))
        draws = (range(start + self.rank, start + self.batch, self.world) for start in starts)
        # Its own generator, since the loader would draw a number from torch's.
        yield from DataLoader(self, batch_sampler=draws, num_workers=self.workers, generator=torch.Generator())  # type: ignore[arg-type]

    def __getitem__(self, draw: int) -> Tensor:
        """The crop number ``draw``, counted from the first batch of all."""
        turn, place = divmod(draw, len(self.indices))
        rng = random.Random(f"{self.seed} crop {draw}")
        crop = self._cut(self._shuffled(turn)[place], rng)
        return self.augmentation.combined(crop, lambda: self._cut(rng.choice(self.indices), rng), rng)

    def _shuffled(self, turn: int) -> list[int]:
        """The order of all photos in one turn; the last one is kept, since shuffling a million takes a second."""
        if turn != self._turn:
            self._turn, self._order = turn, list(self.indices)
            random.Random(f"{self.seed} order {turn}").shuffle(self._order)
        return self._order

    def _decoded(self, index: int, rng: random.Random) -> Image.Image:
        """A photo, or another one in place of a photo that cannot be decoded, which must not end a long run."""
        for _ in range(_TRIES):
            try:
                return self.photos.image(index)
            except CorruptImageError as error:
                warn(f"left out: {error}")
                index, last = rng.choice(self.indices), error
        raise last

    def _cut(self, index: int, rng: random.Random) -> Tensor:
        """A random crop of one photo, not combined with others."""
        photo = v2.functional.pil_to_tensor(self._decoded(index, rng))
        height, width = photo.shape[-2:]
        side = min(height, width) * math.exp(rng.uniform(math.log(self.smallest), 0))
        rows, columns = self.augmentation.sides(side, height, width, rng)
        top, left = rng.randint(0, height - rows), rng.randint(0, width - columns)
        mode = v2.InterpolationMode(self.preprocessing.interpolation)
        crop = v2.functional.resized_crop(photo, top, left, rows, columns, [self.size, self.size], mode)
        crop = v2.functional.to_dtype(crop.flip(-1) if rng.random() < 0.5 else crop, torch.float32, scale=True)
        crop = self.augmentation.jittered(crop, rng)
        normal: Tensor = v2.functional.normalize(crop, list(self.preprocessing.mean), list(self.preprocessing.std))
        return normal
