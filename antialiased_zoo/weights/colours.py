"""The colours of an image: eight bits for each of red, green and blue, whatever the file holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

_MOST = 65_535  # of 16 bits


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB; an RGB image is returned itself.

    Transparency is dropped, as by torchvision's data sets.

    Raises:
        ValueError: If it has values of unknown range; see `eight_bits`.
    """
    # Unlike with Pillow's convert(), which copies an RGB image, too.
    return image if image.mode == "RGB" else eight_bits(image).convert("RGB")


def eight_bits(image: Any) -> Any:
    """Scale a PIL image of 16 bits to 8; anything else, tensors too, is returned itself.

    Pillow's ``convert`` would clip 16 bits to 255, so that nearly every pixel became white.

    Raises:
        ValueError: If its values are floating-point, or need more than 16 bits.
    """
    mode = getattr(image, "mode", "")
    if mode != "F" and not mode.startswith("I"):
        return image
    if mode == "F":
        raise ValueError("it contains floating-point values of unknown range: save it as 8-bit RGB first")
    whole = image.convert("I")
    low, high = whole.getextrema()
    if low < 0 or high > _MOST:
        raise ValueError(f"it contains values from {low} to {high}, not of 16 bits: save it as 8-bit RGB first")
    return whole.point(lambda value: value / 257).convert("L")
