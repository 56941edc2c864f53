"""Random crops of photos without labels, each a function of seed and place: what `distill` learns from."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from ..weights import Preprocessing


class Photos(Protocol):
    """Photos by index, such as `antialiased_zoo.evaluation.open_images` gives."""

    def image(self, index: int) -> Image.Image:
        """Decode one photo to RGB."""


class RandomCrops:
    """Endless batches ``(N, 3, size, size)`` of square crops, resized, flipped half of the time, and normalised.

    Every photo is drawn once before any is drawn again. The side of a crop is ``smallest`` to 1 times the photo's
    shorter side, evenly on a logarithmic scale.

    Args:
        photos: To draw from.
        indices: Which of them.
        preprocessing: Interpolation and normalisation.
        size: Pixels of a side.
        batch: Crops in a batch, of all processes.
        smallest: See above.
        seed: Of all draws.
        rank: This process, which gets every ``world``-th crop.
        world: Number of processes.

    Raises:
        ValueError: If there are no photos, or the processes cannot share a batch.
    """

    def __init__(
        self,
        photos: Photos,
        indices: Sequence[int],
        preprocessing: Preprocessing,
        size: int,
        batch: int,
        smallest: float = 0.5,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not indices or batch < world or batch % world or not 0 < smallest <= 1:
            raise ValueError(
                f"need photos, a batch that {world} processes can share, and 0 < smallest <= 1; got {len(indices)} "
                f"photos, a batch of {batch} and {smallest}"
            )
        self.photos, self.indices, self.facts = photos, indices, preprocessing
        self.size, self.batch, self.smallest, self.seed = size, batch, smallest, seed
        self.rank, self.world, self.first = rank, world, 0

    def skip(self, batches: int) -> RandomCrops:
        """The same without the first so many batches, which are not decoded."""
        later = copy.copy(self)
        later.first = self.first + batches
        return later

    def __iter__(self) -> Iterator[Tensor]:
        place = self.first
        while True:
            start = place * self.batch
            crops = [self._crop(draw) for draw in range(start + self.rank, start + self.batch, self.world)]
            pixels = v2.functional.to_dtype(torch.stack(crops), torch.float32, scale=True)
            yield v2.functional.normalize(pixels, list(self.facts.mean), list(self.facts.std))
            place += 1

    def _crop(self, draw: int) -> Tensor:
        turn, place = divmod(draw, len(self.indices))
        order = list(self.indices)
        random.Random(f"{self.seed} order {turn}").shuffle(order)
        photo = v2.functional.pil_to_tensor(self.photos.image(order[place]))
        dice = random.Random(f"{self.seed} crop {draw}")
        height, width = photo.shape[-2:]
        side = max(1, round(min(height, width) * math.exp(dice.uniform(math.log(self.smallest), 0))))
        top, left = dice.randint(0, height - side), dice.randint(0, width - side)
        mode = v2.InterpolationMode(self.facts.interpolation)
        crop: Tensor = v2.functional.resized_crop(photo, top, left, side, side, [self.size, self.size], mode)
        return crop.flip(-1) if dice.random() < 0.5 else crop
