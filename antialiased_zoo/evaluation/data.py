"""Labelled images from a folder, a zip, or a folder inside a zip, for training and evaluation."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from .images import IMAGE_SUFFIXES, LabelledImages
from .labels import numbered, read_labels


class _FolderFiles:
    """The files below a folder, by their relative paths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """All files below the folder, and its direct subfolders with a trailing slash."""
        found = [f"{entry.name}/" for entry in self.folder.iterdir() if entry.is_dir()]
        for parent, _, files in os.walk(self.folder, followlinks=True):
            below = Path(parent).relative_to(self.folder)
            found += [(below / file).as_posix() for file in files]
        return found

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def size(self, name: str) -> int:
        return (self.folder / name).stat().st_size


class _ZipFiles:
    """The files below a folder of a zip, by their relative paths."""

    def __init__(self, archive: Path, inside: str) -> None:
        self.archive = archive
        self.prefix = f"{inside}/" if inside else ""
        self._handle: tuple[int, zipfile.ZipFile] | None = None

    def _zip(self) -> zipfile.ZipFile:
        # Each process opens its own handle: forked workers would share the file position.
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = (os.getpid(), zipfile.ZipFile(self.archive))
        return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def names(self) -> list[str]:
        """All files below the folder, and subfolders with a trailing slash, as zips list them."""
        inside = [name for name in self._zip().namelist() if name.startswith(self.prefix)]
        if not inside:
            raise FileNotFoundError(f"no folder {self.prefix!r} in {self.archive}; list it with `unzip -l`")
        return [name.removeprefix(self.prefix) for name in inside if name != self.prefix]

    def read(self, name: str) -> bytes:
        return self._zip().read(self.prefix + name)

    def size(self, name: str) -> int:
        return self._zip().getinfo(self.prefix + name).file_size


class ImageFiles(LabelledImages):
    """Images in one folder per class, or in one folder with separate labels; `open_images` opens them.

    ``samples`` and ``classes`` are sorted.
    """

    def __init__(
        self,
        files: _FolderFiles | _ZipFiles,
        source: str,
        transform: Callable[[Image.Image], Any] | None = None,
        labels: Path | None = None,
        labelled: bool = True,
    ) -> None:
        self._files, self.transform = files, transform
        names = files.names()
        samples = sorted(name for name in names if _is_image(name))
        if labels is not None and samples:
            classes, targets = numbered(read_labels(labels, samples))
        else:
            named = [_class_of(name) for name in samples]
            classes = sorted(set(named))
            index = {name: number for number, name in enumerate(classes)}
            targets = [index[name] for name in named]
            _check_classes(classes, {_class_of(name) for name in names} if labelled else set(), source, labelled)
        super().__init__(source, classes, samples, targets)

    def read(self, name: str) -> bytes:
        """Returns the bytes of one image file."""
        return self._files.read(name)

    def size(self, name: str) -> int:
        """Returns the size of one image file in bytes."""
        return self._files.size(name)


def open_images(
    path: str | os.PathLike[str],
    transform: Callable[[Image.Image], Any] | None = None,
    labels: str | os.PathLike[str] | None = None,
    *,
    labelled: bool = True,
) -> ImageFiles:
    """Opens a directory of ``<class>/<image>`` files (torchvision's ImageFolder layout), or a zip of one.

    Args:
        path: A folder, a zip, or a folder inside a zip: ``photos``, ``photos.zip``,
            ``photos.zip/train``.
        transform: Applied to each RGB PIL image.
        labels: Labels of images that are not in class folders; see `read_labels`.
        labelled: False accepts images in any folders; their targets then have no meaning.

    Returns:
        A dataset of ``(image, target)``.

    Raises:
        FileNotFoundError: The folder, zip or labels do not exist.
        ValueError: There are no images, an image has no label or is outside a class folder, or a
            class folder has no images.

    Example:
        >>> train = open_images("cifar10.zip/train")  # doctest: +SKIP
        >>> image, target = train[0]  # doctest: +SKIP
    """
    path = Path(path)
    label_file = None if labels is None else Path(labels)
    if path.is_dir():
        return ImageFiles(_FolderFiles(path), str(path), transform, label_file, labelled)
    archive = next((part for part in (path, *path.parents) if part.is_file()), None)
    if archive is None:
        raise FileNotFoundError(f"no folder or zip at {path}; expected <class>/<image> files in it")
    if not zipfile.is_zipfile(archive):
        raise ValueError(f"{archive} is not a zip file; give a folder of class folders, or a zip of one")
    inside = path.relative_to(archive).as_posix()
    return ImageFiles(_ZipFiles(archive, "" if inside == "." else inside), str(path), transform, label_file, labelled)


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    # Dot files include macOS's "._x.jpg" companions, which are not images.
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _class_of(name: str) -> str:
    folder, slash, _ = name.partition("/")
    return folder if slash else ""


def _check_classes(classes: list[str], folders: set[str], source: str, labelled: bool = True) -> None:
    if not classes:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(f"no images in {source}; expected <class>/<image> files ({known})")
    if "" in classes and labelled:
        raise ValueError(
            f"there are images directly in {source}; put each into the folder of its class, or give their labels "
            "(ImageNet's devkit, or a file with one line per image)"
        )
    empty = sorted(name for name in folders - {"", *classes} if not name.startswith((".", "__MACOSX")))
    if empty:
        raise ValueError(f"class folders without images in {source}: {', '.join(empty)}; fill or remove them")
