"""One source of a file -> its verified bytes in a part, whatever kind of source it is."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from ...errors import DigestError
from ..weights_file import WeightsFile
from .cache import disk_errors
from .digest import sha256
from .download import Download
from .part import Note, Part
from .retry import Patience, SourceError
from .stamps import check_pin

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
    return Path(__file__).resolve().parents[1] / "packaged" / source.removeprefix("package:")


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
    if source.startswith("package:"):
        return _from_file(packaged(source), job, part)
    if not source.startswith("hf://"):
        return _from_url(source, {}, job, part)
    found = _resolve(source, job)
    if found.local is not None:
        with contextlib.suppress(SourceError):  # what the hub's own cache holds may be damaged
            return _from_file(found.local, job, part)
    return _from_url(found.url, found.headers, job, part)


def _from_file(path: Path, job: Job, part: Part) -> str:
    if not path.is_file():
        raise SourceError("is not in this installation")
    with disk_errors(part.path.parent):
        part.begin(Note("", "", path.stat().st_size)).close()
        shutil.copyfile(path, part.path)
    return _checked(job, part)


def _checked(job: Job, part: Part) -> str:
    with disk_errors(part.path), part.path.open("rb", buffering=0) as data:
        digest = sha256(data)
    if not job.file.accepts(digest):
        part.discard()
        raise SourceError(f"its SHA-256 is {digest}, wanted is {job.file.digest}")
    try:
        check_pin(job.target, digest)
    except DigestError:
        part.discard()
        raise
    return digest


def _resolve(source: str, job: Job) -> Resolved:
    from .huggingface import resolve

    failures = 0
    while True:
        try:
            return resolve(source, job.file, job.patience.connect)
        except SourceError as error:
            failures += 1
            pause = job.patience.pause(error, failures)
            if pause is None:
                raise
            time.sleep(pause)


def _from_url(url: str, headers: Mapping[str, str], job: Job, part: Part) -> str:
    with _bar(job) as bar:
        load = Download(url, part, job.patience, bar, headers, job.file.size)
        joined = load.run()
        try:
            return _checked(job, part)
        except SourceError:
            if not joined:
                raise  # what came in one piece would come the same again
        load.run()
        return _checked(job, part)


def _bar(job: Job) -> tqdm[Any]:
    from tqdm import tqdm

    # disable=None silences the bar where standard error is not a terminal.
    disable = None if job.progress else True
    return tqdm(desc=job.file.file, unit="B", unit_scale=True, unit_divisor=1024, disable=disable, leave=False)
