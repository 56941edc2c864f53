"""A small file to fetch, and how the tests of the loader ask for it."""

import hashlib
import os
import random
from pathlib import Path

from antialiased_zoo.weights import hub
from antialiased_zoo.weights.hub import cache
from antialiased_zoo.weights.hub.retry import Retry
from antialiased_zoo.weights.weights_file import WeightsFile

NAME = "net.pth"
CONTENT = random.Random(1).randbytes(200_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HASTE = Retry(attempts=2, backoff=0.01, connect=2, read=1, lock=20)


def wanted(*sources: str, name: str = NAME, full: bool = True) -> WeightsFile:
    return WeightsFile(name, "pickle", sources, DIGEST if full else None, DIGEST[:8])


def get(*sources: str, name: str = NAME, full: bool = True) -> Path:
    return hub.fetch(wanted(*sources, name=name, full=full), progress=False, retry=HASTE)


def part_of(source: str, name: str = NAME, suffix: str = ".part") -> str:
    """Return the name of the part, or of its note, of a download from one address."""
    return f"{name}.{hashlib.sha256(source.encode()).hexdigest()[:8]}{suffix}"


def cached_names(content: bytes = CONTENT) -> set[str]:
    """Return the cache's names, after making sure that what stands under the weights' own name is right."""
    folder = cache.folder()
    names = {path.name for path in folder.glob("*")} if folder.is_dir() else set()
    if NAME in names:
        assert (folder / NAME).read_bytes() == content
    return names


def flip(path: Path, *, at: int = 1000, quietly: bool = False) -> None:
    """Flip one bit; quietly, so that size, inode and time stay."""
    before = path.stat()
    with path.open("rb+") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    when = before.st_mtime_ns if quietly else before.st_mtime_ns + 10_000_000
    os.utime(path, ns=(when, when))
