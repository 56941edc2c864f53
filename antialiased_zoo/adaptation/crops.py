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
    shorter side, evenly on a logarithmic scale. Some crops are mixed with one of any other photo, in random
    proportions.

    Args:
        photos: To draw from.
        indices: Which of them.
        preprocessing: Interpolation and normalisation.
        size: Pixels of a side.
        batch: Crops in a batch, of all processes.
        smallest: See above.
        mixup: The share of crops that are mixed.
        seed: Of all draws.
        rank: This process, which gets every ``world``-th crop.
        world: Number of processes.

    Raises:
        ValueError: If there are no photos, or the processes cannot share a batch.

    Source: Zhang et al., "mixup: Beyond empirical risk minimization", 2018; Beyer et al., "Knowledge distillation: A
        good teacher is patient and consistent", 2022.
    """

    def __init__(
        self,
        photos: Photos,
        indices: Sequence[int],
        preprocessing: Preprocessing,
        size: int,
        batch: int,
        smallest: float = 0.4,
        mixup: float = 0.5,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not indices or batch < world or batch % world or not 0 < smallest <= 1 or not 0 <= mixup <= 1:
            raise ValueError(
                f"need photos, a batch that {world} processes can share, and 0 < smallest <= 1 and a mixup from 0 "
                f"to 1; got {len(indices)} photos, a batch of {batch}, {smallest} and {mixup}"
            )
        self.photos, self.indices, self.facts = photos, indices, preprocessing
        self.size, self.batch, self.seed = size, batch, seed
        self.smallest, self.mixup = smallest, mixup
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
            yield torch.stack(crops)
            place += 1

    def _crop(self, draw: int) -> Tensor:
        turn, place = divmod(draw, len(self.indices))
        order = list(self.indices)
        random.Random(f"{self.seed} order {turn}").shuffle(order)
        dice = random.Random(f"{self.seed} crop {draw}")
        crop = self._cut(order[place], dice)
        if dice.random() < self.mixup:
            crop = crop.lerp(self._cut(dice.choice(self.indices), dice), dice.random())
        return crop

    def _cut(self, index: int, dice: random.Random) -> Tensor:
        photo = v2.functional.pil_to_tensor(self.photos.image(index))
        height, width = photo.shape[-2:]
        side = max(1, round(min(height, width) * math.exp(dice.uniform(math.log(self.smallest), 0))))
        top, left = dice.randint(0, height - side), dice.randint(0, width - side)
        mode = v2.InterpolationMode(self.facts.interpolation)
        crop = v2.functional.resized_crop(photo, top, left, side, side, [self.size, self.size], mode)
        crop = v2.functional.to_dtype(crop.flip(-1) if dice.random() < 0.5 else crop, torch.float32, scale=True)
        normal: Tensor = v2.functional.normalize(crop, list(self.facts.mean), list(self.facts.std))
        return normal
