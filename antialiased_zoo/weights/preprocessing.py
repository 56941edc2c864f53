"""Preprocessing: how an image becomes a network's input, and the transform that does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .colours import eight_bits

if TYPE_CHECKING:
    from torch import Tensor

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class Preprocessing:
    """The evaluation preprocessing of weights: resize, centre crop, scale to 0..1, normalise.

    Attributes:
        resize: Length of the image's shorter side after resizing, in pixels.
        crop: Side of the square centre crop, in pixels: the network's input size.
        interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"`` (antialiased, as always in
            PIL).
        mean: Mean of each channel, for images scaled to 0..1.
        std: Standard deviation of each channel, for images scaled to 0..1.
        test_resize: ``resize`` for the larger size at which some weights do better, or ``None``.
        test_crop: ``crop`` for that larger size, or ``None``.

    Example:
        >>> from PIL import Image
        >>> transform = Preprocessing().build()
        >>> transform(Image.new("RGB", (500, 375))).shape
        torch.Size([3, 224, 224])
    """

    resize: int = 256
    crop: int = 224
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    test_resize: int | None = None
    test_crop: int | None = None

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: A field is out of range; the message names it.
        """
        for name in ("resize", "crop", "test_resize", "test_crop"):
            size = getattr(self, name)
            if not (type(size) is int and 1 <= size <= 4096) and not (size is None and name.startswith("test_")):
                raise ValueError(f"{name} is {size!r}; it must be a whole number of pixels from 1 to 4096")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation is {self.interpolation!r}; it must be one of {INTERPOLATIONS}")
        if self.crop > self.resize:
            raise ValueError(f"crop ({self.crop}) is larger than resize ({self.resize})")
        if (self.test_resize is None) != (self.test_crop is None):
            raise ValueError("give both test_resize and test_crop, or neither")
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(f"mean ({len(self.mean)} values) and std ({len(self.std)}) need one value per channel")
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std must be above zero, not {self.std}")

    def for_channels(self, channels: int) -> Preprocessing:
        """Return the preprocessing for another number of channels, each normalised by the average mean and std."""
        if len(self.mean) == channels:
            return self
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        return replace(self, mean=(mean,) * channels, std=(std,) * channels)

    def build(self) -> Callable[[Any], Tensor]:
        """Return a torchvision v2 transform from a PIL image to a ``(C, crop, crop)`` float32 tensor.

        The image may have any mode; 16 bits are scaled to 8. The transform raises `ValueError` for floating-point
        values, whose range is unknown.
        """
        from torchvision.transforms import v2

        return self._transform(v2.Resize(self.resize, **self._resampling()), v2.CenterCrop(self.crop))

    def build_training(self) -> Callable[[Any], Tensor]:
        """Return a transform for training, with a random resized crop and flip instead of the centre crop."""
        from torchvision.transforms import v2

        return self._transform(v2.RandomResizedCrop(self.crop, **self._resampling()), v2.RandomHorizontalFlip())

    def _resampling(self) -> dict[str, Any]:
        from torchvision.transforms import v2

        return {"interpolation": v2.InterpolationMode(self.interpolation), "antialias": True}

    def _transform(self, *crop: Callable[[Any], Any]) -> Callable[[Any], Tensor]:
        """Convert to greyscale (1 channel) or RGB (3 channels), crop, scale and normalise."""
        import torch
        from torchvision.transforms import v2

        kinds: dict[int, list[Callable[[Any], Any]]] = {1: [v2.Grayscale()], 3: [v2.RGB()]}
        scale = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(self.mean), list(self.std))]
        steps: Callable[[Any], Tensor] = v2.Compose([eight_bits, *kinds.get(len(self.mean), []), *crop, *scale])
        return steps
