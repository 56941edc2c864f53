"""One source of a file -> its verified bytes in a part, whatever kind of source it is."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from .cache import check_pin, disk_errors
from .digest import sha256
from .download import Patience, SourceError, download
from .part import Note, Part
from .weights_file import WeightsFile

if TYPE_CHECKING:
    from tqdm import tqdm

    from .huggingface import Resolved


@dataclass(frozen=True)
class Job:
    """What is to be fetched, where to and how."""

    file: WeightsFile
    target: Path
    patience: Patience
    progress: bool


def packaged(source: str) -> Path:
    """Return the file inside the package that a ``package:`` source names."""
    return Path(__file__).resolve().parent / "weights" / source.removeprefix("package:")


def redacted(url: str) -> str:
    """Return a URL without the user name and password that a mirror's may hold."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else url


def obtain(source: str, job: Job, part: Part) -> str:
    """Fill ``part`` from one source and return its SHA-256, which is the one wanted.

    Raises:
        SourceError: the source does not give the file; says why.
        PinError: the file is not the one first seen under this name.
        CacheError: the disk refuses.
    """
    if not source.startswith("hf://"):
        return _from_url(source, {}, job, part)
    found = _resolve(source, job)
    if found.local is not None:
        with disk_errors(job.target.parent):
            part.begin(Note("", "", found.local.stat().st_size)).close()
            shutil.copyfile(found.local, part.path)
        digest = _digest(part)
        if job.file.accepts(digest):
            check_pin(job.target, digest)
            return digest
    return _from_url(found.url, found.headers, job, part)


def _resolve(source: str, job: Job) -> Resolved:
    from .huggingface import resolve

    for attempt in range(1, job.patience.attempts + 1):
        try:
            return resolve(source, job.file, job.patience.connect)
        except SourceError as error:
            if not error.heals or attempt == job.patience.attempts:
                raise
            time.sleep(job.patience.pause(error.pause, attempt))
    raise SourceError("was never asked: patience.attempts is below 1")


def _from_url(url: str, headers: Any, job: Job, part: Part) -> str:
    digest = ""
    for _ in range(2):
        with _bar(job) as bar:
            joined = download(url, part, job.patience, bar, headers=headers, size=job.file.size)
        digest = _digest(part)
        if job.file.accepts(digest):
            check_pin(job.target, digest)
            return digest
        part.discard()
        if not joined:
            break  # what came in one piece would come the same again
    raise SourceError(f"its SHA-256 is {digest}, wanted is {job.file.digest}")


def _digest(part: Part) -> str:
    with disk_errors(part.path), part.path.open("rb", buffering=0) as data:
        return sha256(data)


def _bar(job: Job) -> tqdm[Any]:
    from tqdm import tqdm

    # disable=None silences the bar where standard error is not a terminal.
    disable = None if job.progress else True
    return tqdm(
        desc=job.file.file, unit="B", unit_scale=True, unit_divisor=1024, disable=disable, leave=False
    )
