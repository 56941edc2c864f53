"""WebDataset shards (tar files of ``KEY.jpg`` and ``KEY.cls``) as a data set with random access."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

from tqdm.auto import tqdm

from .images import LabelledImages
from .labels import numbered

_IMAGES = ("jpg", "jpeg", "png", "webp", "ppm")
_LABELS = ("cls", "cls.txt")


class WebDataset(LabelledImages):
    """Images and class numbers (or names) in shards.

    The headers of all shards are read once; then images are read by offset. So an image's index, on
    which its shifts depend, does not depend on the number of processes.

    Args:
        shards: A tar, a folder of tars, or a path with a range in braces:
            ``val-{000000..000063}.tar``.
        hide_bar: tqdm's ``disable`` for the bar while headers are read.
        labelled: False needs no labels; the targets then have no meaning.

    Raises:
        FileNotFoundError: There are no shards.
        ValueError: There are no images, an image has no label, a key has two images, or a shard is cut off.
    """

    def __init__(self, shards: str, hide_bar: bool | None = True, labelled: bool = True) -> None:
        self._places: dict[str, tuple[Path, int, int]] = {}
        labels: dict[str, str] = {}
        for shard in tqdm(_expanded(shards), desc="shards", disable=hide_bar, leave=False):
            try:
                self._index(shard, labels)
            except tarfile.TarError as error:
                raise ValueError(
                    f"{shard} is not a whole, uncompressed tar ({error}): fetch or pack it again"
                ) from error
        if not labelled:
            labels = dict.fromkeys(self._places, "0")
        missing = [name for name in self._places if not labels.get(name)]
        if missing or not self._places:
            what = f"no label for {missing[0]}" if missing else "no images"
            raise ValueError(f"{what} in {shards}; expected KEY.jpg and KEY.cls")
        samples = list(self._places)
        classes, targets = numbered([labels[name] for name in samples])
        super().__init__(shards, classes, samples, targets)

    def _index(self, shard: Path, labels: dict[str, str]) -> None:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                # In this format, the key is the path up to the first dot of the file name.
                folder, slash, file = member.name.rpartition("/")
                key, _, suffix = file.partition(".")
                name = f"{shard.name}/{folder}{slash}{key}"
                if not member.isfile():
                    continue
                if suffix.lower() in _IMAGES:
                    if name in self._places:
                        raise ValueError(f"{name} has two images in {shard}; expected one KEY.jpg and one KEY.cls")
                    self._places[name] = (shard, member.offset_data, member.size)
                elif suffix.lower() in _LABELS:
                    content = tar.extractfile(member)
                    labels[name] = content.read().decode().strip() if content else ""
            # tarfile takes a part of a header for the archive's end.
            if 0 < shard.stat().st_size - tar.offset < tarfile.BLOCKSIZE:
                raise tarfile.ReadError("unexpected end of data")

    def size(self, name: str) -> int:
        """Returns the size of the encoded image, which its header states."""
        return self._places[name][2]

    def read(self, name: str) -> bytes:
        """Returns the encoded image, read from its shard."""
        shard, offset, size = self._places[name]
        with open(shard, "rb") as file:
            file.seek(offset)
            return file.read(size)


def _expanded(shards: str) -> list[Path]:
    path = Path(shards)
    if path.is_dir():
        found = sorted(path.glob("*.tar"))
    elif match := re.search(r"\{(\d+)\.\.(\d+)\}", shards):
        width = len(match[1])
        numbers = range(int(match[1]), int(match[2]) + 1)
        found = [Path(f"{shards[: match.start()]}{number:0{width}}{shards[match.end() :]}") for number in numbers]
    else:
        found = [path]
    missing = [shard for shard in found if not shard.is_file()]
    if missing or not found:
        raise FileNotFoundError(f"no shard {missing[0] if missing else shards + '/*.tar'}")
    return found
