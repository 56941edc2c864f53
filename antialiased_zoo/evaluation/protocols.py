"""Evaluation protocols: the preprocessing of images, and the shifts to draw from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..metrics import CROP_OFFSETS, DIAGONAL_OFFSETS, ROLL_OFFSETS
from ..weights import Preprocessing, as_rgb

if TYPE_CHECKING:
    from PIL import Image

#: Increased with every change after which the same network would get other figures (shifts, measures,
#: preprocessing).
PROTOCOL_VERSION = 1
# Uncropped images of up to this size are shifted like CIFAR's.
_SMALL = 64


@dataclass(frozen=True)
class ShiftProtocol:
    """Preprocessing and shifts. A *canvas* is a resized and centre-cropped uint8 image, from which views are made.

    Crops are taken from the normalised canvas, padded with ``pad`` zeros.

    Attributes:
        name: Its name in reports.
        preprocessing: Resize, crop, interpolation, mean and standard deviation.
        canvas: Side of the canvas in pixels.
        pad: Zeros around the normalised canvas, in pixels.
        crop_offsets: Corners of crops in the padded canvas, for crop consistency.
        roll_offsets: Rolls of the centre crop, for circular consistency.
        diagonal_offsets: Corners ``(d, d)`` for diagonal stability.
        why: Why this protocol was chosen, for reports; ignored when protocols are compared.

    Raises:
        ValueError: The preprocessing is not for three channels.
    """

    name: str
    preprocessing: Preprocessing
    canvas: int
    pad: int
    crop_offsets: range
    roll_offsets: range
    diagonal_offsets: range
    why: str = field(default="as requested", compare=False)

    def __post_init__(self) -> None:
        """Rejects preprocessing for other images than RGB."""
        channels = len(self.preprocessing.mean)
        if channels != 3:
            raise ValueError(
                f"a network for {channels} channels cannot be measured, since images are RGB: measure a module "
                "that reads RGB, such as nn.Sequential(torchvision.transforms.v2.Grayscale(), network), with "
                "preprocessing.for_channels(3)"
            )

    @property
    def size(self) -> int:
        """Side of the model's input, in pixels."""
        return self.preprocessing.crop

    @property
    def centre(self) -> int:
        """Row and column of the centre crop's corner in the padded canvas."""
        return (self.canvas + 2 * self.pad - self.size) // 2

    @property
    def decoding(self) -> tuple[int, int, str]:
        """The settings that `prepare` depends on: protocols with equal ones share canvases."""
        return self.preprocessing.resize, self.canvas, self.preprocessing.interpolation

    def require_room(self) -> ShiftProtocol:
        """Returns the protocol itself if its canvas is larger than the model's input.

        Raises:
            ValueError: There is no room to shift crops.
        """
        if not self.crop_offsets:
            facts, room = self.preprocessing, self.size + DIAGONAL_OFFSETS[-1]
            raise ValueError(
                f"shifting a crop of {self.size} by up to 32 pixels needs images resized to {room} or more, not "
                f"{facts.resize}: give --room (accuracy is then measured there too), or --protocol cifar with "
                "--crop-pct 1, which pads; accuracy and circular consistency need no room"
            )
        return self

    def describe(self) -> dict[str, object]:
        """Returns all settings that affect the figures, for JSON; ranges as first and last."""
        facts = self.preprocessing
        return {
            "name": self.name,
            "resize": facts.resize,
            "crop": facts.crop,
            "interpolation": facts.interpolation,
            "mean": list(facts.mean),
            "std": list(facts.std),
            "canvas": self.canvas,
            "zero_pad": self.pad,
            "crop_offsets": _ends(self.crop_offsets),
            "roll_offsets": _ends(self.roll_offsets),
            "diagonal_offsets": _ends(self.diagonal_offsets),
        }

    def prepare(self, image: Image.Image) -> Tensor:
        """Makes the canvas of a PIL image of any mode, uint8 ``(3, canvas, canvas)``, channels last in memory."""
        from torchvision.transforms.v2 import InterpolationMode, functional

        mode = InterpolationMode(self.preprocessing.interpolation)
        resized = functional.resize(as_rgb(image), [self.preprocessing.resize], interpolation=mode)
        pixels: Tensor = functional.pil_to_tensor(functional.center_crop(resized, [self.canvas, self.canvas]))
        return pixels

    def normalise(self, pixels: Tensor) -> Tensor:
        """Normalises uint8 ``(N, 3, H, W)`` to float32 in channels-last, bit-identical to the preprocessing.

        It is fastest for channels-last pixels.
        """
        (count, channels, height, width), device = pixels.shape, pixels.device
        facts = self.preprocessing
        # Flatten rows and channels, for long loops over contiguous memory.
        rows = pixels.permute(0, 2, 3, 1).flatten(2)
        mean, std = (
            torch.tensor(each, dtype=torch.float32, device=device).repeat(width) for each in (facts.mean, facts.std)
        )
        made = torch.empty(rows.shape, dtype=torch.float32, device=device)
        # On a CPU one image at a time, which stays in the cache.
        block = 1 if device.type == "cpu" else count
        for to, source in zip(torch.split(made, block), torch.split(rows, block), strict=True):
            to.copy_(source).mul_(1 / 255).sub_(mean).div_(std)
        return made.view(count, height, width, channels).permute(0, 3, 1, 2)

    def padded(self, pixels: Tensor) -> Tensor:
        """Returns normalised canvases, zero-padded as the protocol states."""
        return F.pad(self.normalise(pixels), [self.pad] * 4) if self.pad else self.normalise(pixels)


def _ends(offsets: range) -> list[int]:
    return [offsets[0], offsets[-1]] if offsets else []


def imagenet(preprocessing: Preprocessing | None = None) -> ShiftProtocol:
    """Zhang's protocol: crops at 0..31 of a canvas 32 pixels larger (256 for 224); rolls by -32..31.

    If the preprocessing resizes to less than the canvas, only accuracy and rolls can be measured.
    """
    facts = preprocessing or Preprocessing()
    canvas = facts.crop + DIAGONAL_OFFSETS[-1]
    if facts.resize < canvas:
        return ShiftProtocol("imagenet", facts, facts.crop, 0, range(0), ROLL_OFFSETS, range(0))
    return ShiftProtocol("imagenet", facts, canvas, 0, CROP_OFFSETS, ROLL_OFFSETS, DIAGONAL_OFFSETS)


def cifar(preprocessing: Preprocessing | None = None, reach: int = 3) -> ShiftProtocol:
    """Chaman and Dokmanic's protocol for CIFAR: rolls by -3..2, and crops of the zero-padded image at these offsets.

    Offsets are in pixels of the model's input. The normalised image is padded.

    Args:
        preprocessing: The preprocessing. Default: CIFAR-10's 32 pixels.
        reach: The largest shift; 3 as published.

    Raises:
        ValueError: Resize and crop differ (images would have room for shifts), or reach is below 1.
    """
    facts = preprocessing or Preprocessing(resize=32, crop=32)
    if facts.resize != facts.crop or reach < 1:
        raise ValueError(f"the cifar protocol needs resize equal to crop and reach >= 1, got {facts}, {reach}")
    # Corners 0 .. 2 * reach - 1 of the padded image are offsets -reach .. reach - 1.
    corners, rolls, diagonal = range(2 * reach), range(-reach, reach), range(2 * reach + 1)
    return ShiftProtocol("cifar", facts, facts.crop, reach, corners, rolls, diagonal)


def with_room(preprocessing: Preprocessing) -> Preprocessing:
    """Returns preprocessing with 32 pixels of room for shifts of crops, with a larger resize if necessary.

    Preprocessing that does not crop images of up to 64 pixels is not changed: they are padded, like CIFAR's.

    Example:
        >>> [with_room(Preprocessing(*sizes)).resize for sizes in ((232, 224), (64, 56), (32, 32))]
        [256, 88, 32]
    """
    room = preprocessing.crop + DIAGONAL_OFFSETS[-1]
    if preprocessing.resize == preprocessing.crop <= _SMALL or preprocessing.resize >= room:
        return preprocessing
    return replace(preprocessing, resize=room)


def protocol_for(preprocessing: Preprocessing) -> ShiftProtocol:
    """Returns the protocol that fits preprocessing: ImageNet's if images are cropped, CIFAR's if they are small.

    Raises:
        ValueError: Images have more than 64 pixels and are not cropped, so either protocol could be
            meant.
    """
    facts = preprocessing
    if facts.resize > facts.crop:
        return replace(imagenet(facts), why=f"guessed: resize {facts.resize} is more than crop {facts.crop}")
    if facts.crop <= _SMALL:
        return replace(cifar(facts), why=f"guessed: {facts.crop} pixels, not cropped")
    raise ValueError(
        f"images of {facts.resize} pixels are not cropped, so it is unclear how to shift them: choose --protocol "
        f"imagenet (with --resize {facts.crop + 32} if crops are to be shifted) or --protocol cifar (up to 3 pixels)"
    )
