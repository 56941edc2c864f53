"""Random changes of crops, for distillation: a network that matches its teacher on odd images matches it on others."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, fields

from torch import Tensor
from torchvision.transforms.v2 import functional

_STRENGTH = 0.4  # of brightness and contrast
_SATURATION = 0.7


@dataclass(frozen=True)
class Augmentation:
    """Shares of the crops that are changed at random, each from 0 to 1; a crop is combined in one way at most.

    Attributes:
        mixup: Blended with another crop, in random proportions.
        cutmix: A square of random size is replaced by another crop's.
        mosaic: Four crops are scaled into the four parts of one image.
        jitter: Brightness, contrast and saturation are changed.
        stretch: Largest ratio of the sides that a crop had in its photo, from 1.

    Raises:
        ValueError: If a value is out of range.

    Source: Zhang et al., "mixup: Beyond empirical risk minimization", 2018; Yun et al., "CutMix", 2019; Bochkovskiy et
        al., "YOLOv4", 2020 (mosaic).

    Example:
        >>> STRONG.mixup + STRONG.cutmix + STRONG.mosaic <= 1
        True
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    mosaic: float = 0.0
    jitter: float = 0.0
    stretch: float = 1.0

    def __post_init__(self) -> None:
        """Check the shares."""
        shares = [getattr(self, field.name) for field in fields(self) if field.name != "stretch"]
        if not all(0 <= share <= 1 for share in shares) or sum(shares[:3]) > 1 or self.stretch < 1:
            raise ValueError(
                f"need shares from 0 to 1, of which mixup, cutmix and mosaic add up to 1 at most, and a stretch of 1 "
                f"or more; got {self}"
            )

    def sides(self, side: float, height: int, width: int, rng: random.Random) -> tuple[int, int]:
        """The height and width of a crop of about this side, within the photo."""
        root = math.exp(rng.uniform(-0.5, 0.5) * math.log(self.stretch)) if self.stretch > 1 else 1.0
        return max(1, min(height, round(side * root))), max(1, min(width, round(side / root)))

    def jittered(self, crop: Tensor, rng: random.Random) -> Tensor:
        """The crop ``(3, H, W)``, float from 0 to 1, perhaps with other colours."""
        if rng.random() >= self.jitter:
            return crop
        crop = functional.adjust_brightness(crop, rng.uniform(1 - _STRENGTH, 1 + _STRENGTH))
        crop = functional.adjust_contrast(crop, rng.uniform(1 - _STRENGTH, 1 + _STRENGTH))
        crop = functional.adjust_saturation(crop, rng.uniform(1 - _SATURATION, 1 + _SATURATION))
        return crop

    def combined(self, crop: Tensor, another: Callable[[], Tensor], rng: random.Random) -> Tensor:
        """The crop ``(C, N, N)``, perhaps combined with others, which ``another`` draws."""
        kind = rng.random()
        if kind < self.mixup:
            return crop.lerp(another(), rng.random())
        if kind < self.mixup + self.cutmix:
            return _pasted(crop, another(), rng)
        if kind < self.mixup + self.cutmix + self.mosaic:
            return _mosaic(crop, [another() for _ in range(3)], rng)
        return crop


def _pasted(crop: Tensor, other: Tensor, rng: random.Random) -> Tensor:
    """The crop with a square of the other, whose area's share is uniform."""
    size = crop.shape[-1]
    side = max(1, round(size * math.sqrt(rng.random())))
    top, left = rng.randint(0, size - side), rng.randint(0, size - side)
    result = crop.clone()
    result[:, top : top + side, left : left + side] = other[:, top : top + side, left : left + side]
    return result


def _mosaic(crop: Tensor, others: list[Tensor], rng: random.Random) -> Tensor:
    """Four crops, each in a part of the image, which meet in its middle third."""
    size = crop.shape[-1]
    row, column = (rng.randint(-(-size // 3), 2 * size // 3) for _ in range(2))
    result = crop.clone()
    parts = [(rows, columns) for rows in ((0, row), (row, size)) for columns in ((0, column), (column, size))]
    for each, ((top, bottom), (left, right)) in zip([crop, *others], parts, strict=True):
        result[:, top:bottom, left:right] = functional.resize(each, [bottom - top, right - left])
    return result


#: For photos of everyday size.
STRONG = Augmentation(mixup=0.35, cutmix=0.15, mosaic=0.2, jitter=0.6, stretch=1.5)
#: For thumbnails, in which a crop holds the whole object.
MIXED = Augmentation(mixup=0.5)
