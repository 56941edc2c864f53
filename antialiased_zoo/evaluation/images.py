"""The base class of data sets of labelled images: names, targets, decoding, digests."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from ..errors import ZooError
from ..weights import as_rgb


class CorruptImageError(ZooError, ValueError):
    """An image file cannot be decoded; the message names the file."""


class LabelledImages(Dataset[tuple[Any, int]]):
    """Images with a class each; a subclass implements `read`.

    Attributes:
        source: Where the images are, for messages.
        classes: Class names; a target is an index into them.
        samples: Every image's name.
        targets: Every image's class index, in the order of ``samples``.
        transform: Applied to each RGB PIL image, or ``None``.
    """

    transform: Callable[[Image.Image], Any] | None = None

    def __init__(self, source: str, classes: Sequence[str], samples: Sequence[str], targets: Sequence[int]) -> None:
        self.source = source
        self.classes, self.samples, self.targets = list(classes), list(samples), list(targets)

    def read(self, name: str) -> bytes:
        """Returns the encoded image of one of ``samples``."""
        raise NotImplementedError

    def keep(self, indices: Sequence[int]) -> None:
        """Keeps only some of the images; the classes stay."""
        self.samples = [self.samples[index] for index in indices]
        self.targets = [self.targets[index] for index in indices]

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, index: int) -> Image.Image:
        """Decodes one image to RGB, without the transform.

        Raises:
            CorruptImageError: The file is not an image that can be decoded.
        """
        name = self.samples[index]
        try:
            with Image.open(io.BytesIO(self.read(name))) as image:
                image.load()
                return as_rgb(image)
        except DECODING_ERRORS as error:
            raise CorruptImageError(
                f"cannot decode {self.source}/{name}: {error}; replace the file or remove it"
            ) from error

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.image(index)
        return (image if self.transform is None else self.transform(image)), self.targets[index]

    def names_digest(self) -> str:
        """Returns the SHA-256 (hex) of all names: fast, and enough to notice a wrong data set."""
        return hashlib.sha256("\n".join(self.samples).encode()).hexdigest()

    def digest(self, hide_bar: bool | None = True) -> str:
        """Returns the SHA-256 (hex) of every image's name and content.

        A zip and the folder unpacked from it have the same digest.

        Args:
            hide_bar: tqdm's ``disable``: ``None`` shows a bar on a terminal.
        """
        total = hashlib.sha256()
        for name in tqdm(self.samples, desc="digest", disable=hide_bar, leave=False):
            content = hashlib.sha256(self.read(name)).hexdigest()
            total.update(f"{name}\0{content}\n".encode())
        return total.hexdigest()


# Errors of Pillow for broken files, and of truncated zip members.
DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
    zipfile.BadZipFile,
    zlib.error,
)
