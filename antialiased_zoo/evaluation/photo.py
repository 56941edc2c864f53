"""Reads a photo from an untrusted file: a valid RGB image, or an error with the reason."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from ..errors import ZooError
from ..weights import as_rgb, eight_bits, open_regular
from .images import DECODING_ERRORS

# 64 million pixels take 192 MB when decoded: enough for cameras, but not for an attack.
MAX_PIXELS = 64_000_000
# Only the central square is used, but a strip of 1 x 60,000 pixels would be resized to gigabytes first.
_MAX_ASPECT = 4
# JPEG's own limit. Pillow needs some bytes per row: 64 million rows of one pixel would take gigabytes.
MAX_SIDE = 65_535
# Pillow supports many more, among them PostScript, for which it starts Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "MPO", "TGA", "ICO")
# What turns an image upright, by its orientation. Pillow's exif_transpose also writes all other metadata anew, which
# may be broken.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PhotoError(ZooError, ValueError):
    """A file is not a usable image; the message names the file and the reason."""


def read_photo(path: str | os.PathLike[str]) -> Image.Image:
    """Decode an image file as a viewer shows it: upright, first frame, transparency on white, as 8-bit RGB.

    Images with an aspect ratio above four are cropped at both ends, which no centre crop reaches.

    Args:
        path: A file in one of `FORMATS`.

    Returns:
        An RGB image.

    Raises:
        PhotoError: If it cannot be read or decoded, has more than 64 million pixels, or a side of
            more than 65,535.

    Example:
        >>> read_photo("cat.jpg").mode  # doctest: +SKIP
        'RGB'
    """
    try:
        with open_regular(Path(path)) as file, Image.open(file, formats=_formats()) as image:
            return _central(_rgb(_upright(_sized(image))))
    except PhotoError as error:
        raise PhotoError(f"{Path(path)}: {error}") from None
    except UnidentifiedImageError:
        raise PhotoError(f"{Path(path)}: not an image in one of the formats {', '.join(_formats())}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise PhotoError(f"{Path(path)}: too large: {error}") from None
    except DECODING_ERRORS as error:
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise PhotoError(f"{Path(path)}: cannot be decoded: {reason}") from None


def _formats() -> list[str]:
    """Return the formats among `FORMATS` that this build of Pillow supports."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _sized(image: Image.Image) -> Image.Image:
    width, height = image.size
    if max(width, height) > MAX_SIDE:
        raise PhotoError(f"{width} x {height} pixels: no side may be longer than {MAX_SIDE:,}")
    if width * height > MAX_PIXELS:
        raise PhotoError(f"{width} x {height} pixels are more than {MAX_PIXELS:,}: scale it down first")
    return image


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except DECODING_ERRORS:  # only the metadata is broken
        return image
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    image = eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return as_rgb(image)


def _central(image: Image.Image) -> Image.Image:
    width, height = image.size
    limit = _MAX_ASPECT * min(width, height)
    left, top = max(0, width - limit) // 2, max(0, height - limit) // 2
    return image.crop((left, top, width - left, height - top)) if left or top else image
