"""Fetches a file: from the cache, or from the first source that provides it, verified."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

from ...errors import DigestError, OfflineError, PinError, SourcesFailedError, warn
from ..addresses import check_url
from ..atomic_files import publish, sweep
from ..schemes import find_scheme
from ..weights_file import WeightsFile
from . import cache, stamps
from .connection import Network
from .locks import exclusive
from .part import remove_all
from .redaction import printable, redacted
from .retry import DEFAULT_RETRY, Retry, SourceError
from .sources import Job, obtain

_log = logging.getLogger(__name__)
MIRROR = "ANTIALIASED_ZOO_MIRROR"
OFFLINE = ("HF_HUB_OFFLINE", "ANTIALIASED_ZOO_OFFLINE")
_TRUE = ("1", "ON", "YES", "TRUE")


class Fetchable(Protocol):
    """Something that can be fetched: an entry of the manifest, or one of its files."""

    @property
    def files(self) -> Sequence[WeightsFile]:
        """Files with the same weights, best first."""

    @property
    def notice(self) -> str:
        """A notice to show the user once, or ``""``."""


class LicenseWarning(UserWarning):
    """The licence of fetched weights does not allow commercial use."""


def fetch(wanted: Fetchable, *, progress: bool = True, retry: Retry = DEFAULT_RETRY) -> Path:
    """Return a verified local copy of a file.

    A copy in the cache is checked and used; otherwise the sources are tried in order (mirrors in
    ``ANTIALIASED_ZOO_MIRROR`` first). A file appears under its name only after its SHA-256 has been
    checked, and the check cannot be turned off.

    Args:
        wanted: A manifest's entry.
        progress: Show a progress bar, on a terminal.
        retry: Timeouts and retries.

    Raises:
        OfflineError: There is no valid local copy, and ``HF_HUB_OFFLINE`` or
            ``ANTIALIASED_ZOO_OFFLINE`` is set.
        SourcesFailedError: No source provided the file; each is listed with its reason.
        PinError: A copy matches the short public digest, but is not the file first seen.
        CacheError: The cache folder cannot be used.

    Example:
        >>> from antialiased_zoo.weights import manifest
        >>> path = fetch(manifest.load().find("resnet50", 3, "timm_bt"))  # doctest: +SKIP
    """
    if (path := cached(wanted)) is not None:
        return path
    folder = cache.folder()
    offline = is_offline()
    reasons: list[tuple[str, str]] = []
    if not offline or _may_be_here(wanted):
        cache.make(folder)
        network = Network(retry.connect)
        for file in wanted.files:
            target = folder / file.file
            with exclusive(target, retry.lock) as held:
                path = _fetch_locked(Job(file, target, not held, retry, network, progress), reasons, offline)
            if path is not None:
                if wanted.notice:
                    warn(wanted.notice, LicenseWarning)
                return path
    if offline:
        why = f"{' or '.join(OFFLINE)} forbids the network"
        bad = "".join(f"\n{reason}" for reason in _wrong_copies(wanted, folder))
        raise OfflineError(f"{_wanted(wanted)} is not in the cache, and {why}.{bad}\n{_by_hand(wanted, folder)}")
    listed = "\n".join(f"  {source}: {reason}" for source, reason in reasons)
    raise SourcesFailedError(f"could not get {_wanted(wanted)}:\n{listed}\n{_by_hand(wanted, folder)}", reasons)


def cached(wanted: Fetchable) -> Path | None:
    """Return the verified local copy, or ``None`` if there is none; never uses the network.

    Raises:
        PinError: A copy matches the short public digest, but is not the file first seen.
        CacheError: A copy cannot be read.
    """
    folder = cache.folder()
    return next((path for file in wanted.files if (path := _present(file, folder)) is not None), None)


def is_offline() -> bool:
    """True if an environment variable forbids the network."""
    return any(os.environ.get(name, "").upper() in _TRUE for name in OFFLINE)


def in_place(file: WeightsFile) -> list[Path]:
    """Return the paths inside this package that may hold a file."""
    schemes = [(find_scheme(source), source) for source in file.sources]
    found = [scheme.local(source) for scheme, source in schemes if scheme.in_place]
    return [path for path in found if path is not None]


def _may_be_here(wanted: Fetchable) -> bool:
    """True if another program's cache holds a file under the right name."""
    sources = [source for file in wanted.files for source in file.sources]
    return any(find_scheme(source).local(source) is not None for source in sources)


def _present(file: WeightsFile, folder: Path) -> Path | None:
    for path, stamped in (*((path, False) for path in in_place(file)), (folder / file.file, True)):
        try:
            stamps.check(path, file, stamped=stamped)
        except PinError:
            raise
        except (FileNotFoundError, NotADirectoryError, DigestError):
            continue
        return path
    return None


def _wrong_copies(wanted: Fetchable, folder: Path) -> Iterator[str]:
    """Say which copies were not used because of their digest."""
    for file in wanted.files:
        try:
            stamps.check(folder / file.file, file)
        except DigestError as error:
            yield f"{error}: it was not used."
        except OSError:  # there is none
            continue


def _fetch_locked(job: Job, reasons: list[tuple[str, str]], offline: bool) -> Path | None:
    sweep(job.target)
    if (path := _present(job.file, job.target.parent)) is not None:
        return path  # another process has fetched it
    if job.target.exists():
        bad = cache.quarantine(job.target)
        warn(f"{job.target} had the wrong digest; it was renamed to {bad.name}")
    return job.target if _from_any_source(job, reasons, offline) else None


def _from_any_source(job: Job, reasons: list[tuple[str, str]], offline: bool) -> bool:
    for source in (*mirrored(job.file), *job.file.sources):
        try:
            digest = obtain(source, job, offline=offline)
        except (SourceError, DigestError) as error:
            _log.info("%s: %s", redacted(source), error)
            reasons.append((redacted(source), str(error)))
            continue
        if source not in job.file.sources:
            stamps.say_short(job.target, job.file, digest, "a mirror")
        with cache.disk_errors(job.target.parent):
            publish(job.part.path, job.target)
            job.part.discard()  # only its note is left
            if not job.private:  # else another process may be writing to one of them
                remove_all(job.target)
            stamps.write(job.target, stamps.Stamp.of(digest, job.target.stat()))
        return True
    return False


def mirrored(file: WeightsFile) -> Iterator[str]:
    """Yield a file's addresses at the mirrors in the environment variable, which are separated by spaces.

    Raises:
        ValueError: One of them is not a valid address.
    """
    for base in os.environ.get(MIRROR, "").split():
        try:
            parts = urlsplit(base)
            check_url(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl())
        except ValueError as error:
            shown = printable(redacted(base))
            raise ValueError(f"{MIRROR}: {printable(str(error).replace(base, shown))}") from None
        yield parts._replace(path=f"{parts.path.rstrip('/')}/{quote(file.file)}").geturl()


def _wanted(wanted: Fetchable) -> str:
    return " or ".join(
        f"{file.file} (SHA-256 {'' if file.sha256 else 'beginning '}{file.digest})" for file in wanted.files
    )


def _by_hand(wanted: Fetchable, folder: Path) -> str:
    name = wanted.files[0].file
    stem, dot, ending = map(re.escape, name.rpartition("."))
    # Browsers and the author's own links save the file under other names.
    copy = re.compile(rf"{stem}( ?\(\d+\)| ?copy)?{dot}{ending}(\.tar)?")
    likely = [path.name for path in folder.glob("*") if path.name != name and copy.fullmatch(path.name)]
    hint = f" There is {printable(likely[0])!r}: if that is your copy, rename it to {name}." if likely else ""
    return (
        f"Put a copy of {name} into {folder} and try again: it will be checked and used. Or set {MIRROR} to a server "
        f"that has it.{hint}"
    )
