"""The base class of data sets of labelled images: names, targets, decoding, digests."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image, UnidentifiedImageError
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from ..errors import ZooError
from ..weights import as_rgb

#: Suffixes of the files that are images.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})


class CorruptImageError(ZooError, ValueError):
    """An image file cannot be decoded; the message names the file."""


class LabelledImages(Dataset[tuple[Any, int]]):
    """Images with a class each; a subclass implements `read`.

    Attributes:
        source: Where the images are, for messages.
        classes: Class names; a target is an index into them.
        samples: Every image's name.
        targets: Every image's class index, in the order of ``samples``.
        numbers: Every image's index in the whole data set, which its shifts depend on.
        transform: Applied to each RGB PIL image, or ``None``.
    """

    transform: Callable[[Image.Image], Any] | None = None

    def __init__(self, source: str, classes: Sequence[str], samples: Sequence[str], targets: Sequence[int]) -> None:
        self.source = source
        self.classes, self.samples, self.targets = list(classes), list(samples), list(targets)
        self.numbers = list(range(len(self.samples)))

    def read(self, name: str) -> bytes:
        """Returns the encoded image of one of ``samples``."""
        raise NotImplementedError

    def keep(self, indices: Sequence[int]) -> None:
        """Keeps only some of the images; the classes stay, and so do the images' numbers."""
        self.samples = [self.samples[index] for index in indices]
        self.targets = [self.targets[index] for index in indices]
        self.numbers = [self.numbers[index] for index in indices]

    def thin_out(self, limit: int | None) -> None:
        """Keeps this many images, evenly spaced, so that every class is kept; ``None`` keeps all."""
        if limit is not None and limit < len(self):
            self.keep([index * len(self) // limit for index in range(limit)])

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
            # Pillow names the object in memory, with another address each time.
            reason = "it is not an image" if isinstance(error, UnidentifiedImageError) else error
            raise CorruptImageError(
                f"cannot decode {self.source}/{name}: {reason}; replace the file or remove it"
            ) from error

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.image(index)
        return (image if self.transform is None else self.transform(image)), self.targets[index]

    def _content(self, name: str) -> bytes:
        try:
            return self.read(name)
        except _DAMAGED:
            return b""

    def labels_digest(self) -> str:
        """Returns the SHA-256 (hex) of the classes and of every image's class."""
        named = json.dumps([self.classes, self.targets])
        return hashlib.sha256(named.encode()).hexdigest()

    def size(self, name: str) -> int | None:
        """Returns the size of one of ``samples`` in bytes; ``None`` if it is not known without reading it."""
        return None

    def quick_digest(self) -> str:
        """Returns the SHA-256 (hex) of all names and sizes, and of the content of a spread sample of the images.

        Of data sets of up to 256 MB, the sample is every image; of larger ones, images of about 256 MB in all. So it
        takes a second or two, and tells other images under the same names from these, unless they have the same sizes
        and are very few among many.
        """
        sizes = [self.size(name) for name in self.samples]
        known = [size for size in sizes if size is not None]
        every = -(-sum(known) // _READ) if known else -(-len(sizes) // _COUNT)
        total = hashlib.sha256()
        for place, (name, size) in enumerate(zip(self.samples, sizes, strict=True)):
            content = self._content(name) if place % max(every, 1) == 0 else b""
            total.update(f"{name}\0{size}\0{hashlib.sha256(content).hexdigest()}\n".encode())
        return total.hexdigest()

    def digest(self, hide_bar: bool | None = True) -> str:
        """Returns the SHA-256 (hex) of every image's name and content.

        A zip and the folder unpacked from it have the same digest. A damaged member of a zip counts as empty.

        Args:
            hide_bar: tqdm's ``disable``: ``None`` shows a bar on a terminal.
        """
        total = hashlib.sha256()
        for name in tqdm(self.samples, desc="digest", disable=hide_bar, leave=False):
            content = hashlib.sha256(self._content(name)).hexdigest()
            total.update(f"{name}\0{content}\n".encode())
        return total.hexdigest()


# What `quick_digest` reads: bytes, or images where sizes are not known.
_READ, _COUNT = 256_000_000, 1000
# Errors of a damaged zip, which are the same whenever it is read.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError)
# Errors of Pillow for broken files, and of truncated zip members.
DECODING_ERRORS = (
    *_DAMAGED,
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
)
