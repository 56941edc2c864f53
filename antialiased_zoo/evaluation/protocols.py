"""What is done to an image before a model sees it: preprocessing, and the shifts to draw from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..metrics import CROP_OFFSETS, DIAGONAL_OFFSETS, ROLL_OFFSETS
from ..weights import Preprocessing
from .images import as_rgb

if TYPE_CHECKING:
    from PIL import Image

#: Goes up whenever the same network would get other figures: other shifts, another measure, other
#: preprocessing.
PROTOCOL_VERSION = 1
# Up to so many pixels, images that are not cropped are shifted as CIFAR's.
_SMALL = 64


@dataclass(frozen=True)
class ShiftProtocol:
    """Preprocessing and shifts. A *canvas* is what is kept of an image: resized, centre-cropped, uint8.

    Crops are cut from the normalised canvas with ``pad`` zeros around it.

    Attributes:
        name: For reports.
        preprocessing: Resize, crop, interpolation, mean and deviation.
        canvas: Side of the canvas in pixels.
        pad: Zeros around the normalised canvas, in pixels.
        crop_offsets: Corners of crops in the padded canvas, for crop consistency.
        roll_offsets: Rolls of the centre crop, for circular consistency.
        diagonal_offsets: Corners ``(d, d)`` for diagonal stability.
        why: What made it this protocol, for reports; ignored when protocols are compared.
    """

    name: str
    preprocessing: Preprocessing
    canvas: int
    pad: int
    crop_offsets: range
    roll_offsets: range
    diagonal_offsets: range
    why: str = field(default="as asked for", compare=False)

    @property
    def size(self) -> int:
        """Side of what the model sees, in pixels."""
        return self.preprocessing.crop

    @property
    def centre(self) -> int:
        """Row and column of the centre crop's corner in the padded canvas."""
        return (self.canvas + 2 * self.pad - self.size) // 2

    @property
    def decoding(self) -> tuple[int, int, str]:
        """What `prepare` depends on: protocols that share it can share decoded canvases."""
        return self.preprocessing.resize, self.canvas, self.preprocessing.interpolation

    def require_room(self) -> ShiftProtocol:
        """Returns the protocol itself if its canvas is larger than what the model sees.

        Raises:
            ValueError: There is nothing to shift the crop in.
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
        """Returns everything that decides the figures, for JSON; ranges as first and last."""
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
        """Turns a PIL image of any mode into a canvas, uint8 ``(3, canvas, canvas)``, colours last in memory."""
        from torchvision.transforms.v2 import InterpolationMode, functional

        mode = InterpolationMode(self.preprocessing.interpolation)
        resized = functional.resize(as_rgb(image), [self.preprocessing.resize], interpolation=mode)
        pixels: Tensor = functional.pil_to_tensor(functional.center_crop(resized, [self.canvas, self.canvas]))
        return pixels

    def normalise(self, pixels: Tensor) -> Tensor:
        """Turns uint8 ``(N, 3, H, W)`` into float32 as the preprocessing does, bit for bit; channels-last.

        Fastest for channels-last pixels.
        """
        (count, channels, height, width), device = pixels.shape, pixels.device
        facts = self.preprocessing
        # Rows of pixels with their colours side by side: long loops over memory.
        rows = pixels.permute(0, 2, 3, 1).flatten(2)
        mean, std = (
            torch.tensor(each, dtype=torch.float32, device=device).repeat(width) for each in (facts.mean, facts.std)
        )
        made = torch.empty(rows.shape, dtype=torch.float32, device=device)
        # On a CPU one image at a time, which stays in its cache from step to step.
        block = 1 if device.type == "cpu" else count
        for to, source in zip(torch.split(made, block), torch.split(rows, block), strict=True):
            to.copy_(source).mul_(1 / 255).sub_(mean).div_(std)
        return made.view(count, height, width, channels).permute(0, 3, 1, 2)

    def padded(self, pixels: Tensor) -> Tensor:
        """Returns normalised canvases with the protocol's zeros around them."""
        return F.pad(self.normalise(pixels), [self.pad] * 4) if self.pad else self.normalise(pixels)


def _ends(offsets: range) -> list[int]:
    return [offsets[0], offsets[-1]] if offsets else []


def imagenet(preprocessing: Preprocessing | None = None) -> ShiftProtocol:
    """Zhang's protocol: crops at 0..31 of a canvas 32 pixels larger (256 for 224); rolls by -32..31.

    Where the preprocessing resizes to less than that canvas, only accuracy and rolls can be
    measured.
    """
    facts = preprocessing or Preprocessing()
    canvas = facts.crop + DIAGONAL_OFFSETS[-1]
    if facts.resize < canvas:
        return ShiftProtocol("imagenet", facts, facts.crop, 0, range(0), ROLL_OFFSETS, range(0))
    return ShiftProtocol("imagenet", facts, canvas, 0, CROP_OFFSETS, ROLL_OFFSETS, DIAGONAL_OFFSETS)


def cifar(preprocessing: Preprocessing | None = None, reach: int = 3) -> ShiftProtocol:
    """Chaman and Dokmanic's protocol for CIFAR: rolls by -3..2, and crops at those of the zero-padded image.

    Offsets are pixels of what the model sees. The zeros surround the normalised image.

    Args:
        preprocessing: By default CIFAR-10's own 32 pixels.
        reach: The largest shift, 3 as published.

    Raises:
        ValueError: A resize other than the crop (there would be image to shift in), or no reach.
    """
    facts = preprocessing or Preprocessing(resize=32, crop=32)
    if facts.resize != facts.crop or reach < 1:
        raise ValueError(f"the cifar protocol needs resize equal to crop and a reach, got {facts}, {reach}")
    # Rows 0 .. 2 * reach - 1 of the padded image are offsets -reach .. reach - 1.
    corners, rolls, diagonal = range(2 * reach), range(-reach, reach), range(2 * reach + 1)
    return ShiftProtocol("cifar", facts, facts.crop, reach, corners, rolls, diagonal)


def with_room(preprocessing: Preprocessing) -> Preprocessing:
    """Returns preprocessing that leaves 32 pixels to shift crops in, with a larger resize where that takes one.

    Of crops of up to 64 pixels it leaves all as it is: those are padded, as CIFAR's.

    Example:
        >>> with_room(Preprocessing(232, 224)).resize, with_room(Preprocessing(32, 32)).resize
        (256, 32)
    """
    room = preprocessing.crop + DIAGONAL_OFFSETS[-1]
    if preprocessing.crop <= _SMALL or preprocessing.resize >= room:
        return preprocessing
    return replace(preprocessing, resize=room)


def protocol_for(preprocessing: Preprocessing) -> ShiftProtocol:
    """Returns the protocol that preprocessing implies: ImageNet's where images are cropped, CIFAR's for small ones.

    Raises:
        ValueError: Images of more than 64 pixels that are not cropped; either protocol could be
            meant.
    """
    facts = preprocessing
    if facts.resize > facts.crop:
        return replace(imagenet(facts), why=f"guessed: resize {facts.resize} is more than crop {facts.crop}")
    if facts.crop <= _SMALL:
        return replace(cifar(facts), why=f"guessed: {facts.crop} pixels, of which nothing is cropped off")
    raise ValueError(
        f"images of {facts.resize} pixels are not cropped, so it is unclear how to shift them: choose --protocol "
        f"imagenet (with --resize {facts.crop + 32} if crops are to be shifted) or --protocol cifar (up to 3 pixels)"
    )
