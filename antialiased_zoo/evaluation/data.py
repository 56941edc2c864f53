"""Labelled images from a folder, a zip, or a folder inside a zip: one dataset for training and evaluation."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from ..errors import ZooError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})


class CorruptImageError(ZooError, ValueError):
    """An image file that cannot be decoded; the message names the file."""


class _FolderFiles:
    """Files below a folder, by their path relative to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Every file below the folder, and every folder directly in it with a slash behind its name."""
        found = [f"{entry.name}/" for entry in self.folder.iterdir() if entry.is_dir()]
        for parent, _, files in os.walk(self.folder, followlinks=True):
            below = Path(parent).relative_to(self.folder)
            found += [(below / file).as_posix() for file in files]
        return found

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


class _ZipFiles:
    """Files of a zip below one of its folders, by their path relative to that folder."""

    def __init__(self, archive: Path, inside: str) -> None:
        self.archive = archive
        self.prefix = f"{inside}/" if inside else ""
        self._handle: tuple[int, zipfile.ZipFile] | None = None

    def _zip(self) -> zipfile.ZipFile:
        # A handle shared by forked workers would share its file position: each process opens its own.
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = (os.getpid(), zipfile.ZipFile(self.archive))
        return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def names(self) -> list[str]:
        """As of a folder; a zip's folders are entries that end with a slash already."""
        inside = [name for name in self._zip().namelist() if name.startswith(self.prefix)]
        if not inside:
            raise FileNotFoundError(f"no folder {self.prefix!r} in {self.archive}; list it with `unzip -l`")
        return [name.removeprefix(self.prefix) for name in inside if name != self.prefix]

    def read(self, name: str) -> bytes:
        return self._zip().read(self.prefix + name)


class ImageFiles(Dataset[tuple[Any, int]]):
    """Images in one folder per class, as :func:`open_images` found them.

    Attributes:
        classes: Class names, sorted; a target is an index into them.
        samples: Every image's name, ``class/.../file``, sorted.
        targets: Every image's class index, in the order of ``samples``.
        transform: Applied to each RGB PIL image, or ``None``.
    """

    def __init__(
        self,
        files: _FolderFiles | _ZipFiles,
        source: str,
        transform: Callable[[Image.Image], Any] | None,
        labelled: bool = True,
    ) -> None:
        self._files = files
        self._source = source
        self.transform = transform
        names = files.names()
        self.samples = sorted(name for name in names if _is_image(name))
        self.classes = sorted({_class_of(name) for name in self.samples})
        if labelled:
            _check_classes(self.classes, {_class_of(name) for name in names}, source)
        elif not self.samples:
            raise ValueError(f"no images in {source}: expected files that end in {', '.join(sorted(IMAGE_SUFFIXES))}")
        index = {name: number for number, name in enumerate(self.classes)}
        self.targets = [index[_class_of(name)] for name in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, index: int) -> Image.Image:
        """Decodes one image to RGB, without the transform.

        Raises:
            CorruptImageError: The file is not an image that can be decoded.
        """
        name = self.samples[index]
        try:
            with Image.open(io.BytesIO(self._files.read(name))) as image:
                rgb: Image.Image = image.convert("RGB")
                return rgb
        # Pillow raises SyntaxError and struct.error's parent ValueError for some broken headers.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, zipfile.BadZipFile) as error:
            raise CorruptImageError(
                f"cannot decode {self._source}/{name}: {error}; replace the file or remove it"
            ) from error

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.image(index)
        return (image if self.transform is None else self.transform(image)), self.targets[index]

    def names_digest(self) -> str:
        """Returns the SHA-256 (hex) of all names: quick, and enough to notice other data by mistake."""
        return hashlib.sha256("\n".join(self.samples).encode()).hexdigest()

    def digest(self, hide_bar: bool | None = True) -> str:
        """Returns the SHA-256 (hex) of every image's name and content.

        A zip and the folder unpacked from it have the same digest.

        Args:
            hide_bar: tqdm's ``disable``, for a bar since every byte is read: ``None`` shows it on a terminal.
        """
        total = hashlib.sha256()
        for name in tqdm(self.samples, desc="digest", disable=hide_bar, leave=False):
            content = hashlib.sha256(self._files.read(name)).hexdigest()
            total.update(f"{name}\0{content}\n".encode())
        return total.hexdigest()


def open_images(
    path: str | os.PathLike[str], transform: Callable[[Image.Image], Any] | None = None, *, labelled: bool = True
) -> ImageFiles:
    """Opens a directory of ``<class>/<image>`` files (torchvision's ImageFolder layout), or a zip of one.

    Args:
        path: A folder, a zip, or a folder inside a zip: ``photos``, ``photos.zip``, ``photos.zip/train``.
        transform: Applied to each RGB PIL image.
        labelled: Without it images may lie in any folders, and their targets mean nothing.

    Returns:
        A dataset of ``(image, target)``.

    Raises:
        FileNotFoundError: No such folder or zip.
        ValueError: No images, images outside a class folder, or a class folder without images.

    Example:
        >>> train = open_images("cifar10.zip/train")  # doctest: +SKIP
        >>> image, target = train[0]  # doctest: +SKIP
    """
    path = Path(path)
    if path.is_dir():
        return ImageFiles(_FolderFiles(path), str(path), transform, labelled)
    archive = next((part for part in (path, *path.parents) if part.is_file()), None)
    if archive is None:
        raise FileNotFoundError(f"no folder or zip at {path}; expected <class>/<image> files in it")
    if not zipfile.is_zipfile(archive):
        raise ValueError(f"{archive} is no zip; give a folder of class folders, or a zip of one")
    inside = path.relative_to(archive).as_posix()
    return ImageFiles(_ZipFiles(archive, "" if inside == "." else inside), str(path), transform, labelled)


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    # Dot files include macOS's "._x.jpg" companions, which are no images.
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _class_of(name: str) -> str:
    folder, slash, _ = name.partition("/")
    return folder if slash else ""


def _check_classes(classes: list[str], folders: set[str], source: str) -> None:
    if not classes:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(f"no images in {source}; expected <class>/<image> files ({known})")
    if "" in classes:
        raise ValueError(f"images lie directly in {source}; put each into the folder of its class")
    empty = sorted(name for name in folders - {"", *classes} if not name.startswith((".", "__MACOSX")))
    if empty:
        raise ValueError(f"class folders without images in {source}: {', '.join(empty)}; fill or remove them")
