"""Sources -> one verified local file. Knows nothing about models."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from ...errors import CacheError, DigestError, FetchError, OfflineError, PinError, SourcesFailedError
from ..weights_file import WeightsFile, check_url
from . import cache, stamps
from .locks import exclusive
from .part import Part
from .retry import Patience, SourceError
from .sources import Job, obtain, packaged, redacted

_log = logging.getLogger(__name__)
MIRROR = "ANTIALIASED_ZOO_MIRROR"
OFFLINE = ("HF_HUB_OFFLINE", "ANTIALIASED_ZOO_OFFLINE")
_TRUE = ("1", "ON", "YES", "TRUE")
DEFAULT_PATIENCE = Patience()


class Fetchable(Protocol):
    """What can be fetched: an entry of the manifest, or one of its files."""

    @property
    def files(self) -> Sequence[WeightsFile]:
        """Files with the same weights, best first."""

    @property
    def notice(self) -> str:
        """What the user must be told about them once, or ``""``."""


class LicenseWarning(UserWarning):
    """Weights were fetched whose licence does not allow commercial use."""


def fetch(wanted: Fetchable, *, progress: bool = True, patience: Patience = DEFAULT_PATIENCE) -> Path:
    """Return a local copy of a file that is known to be the one wanted.

    A copy in the cache is checked and used; otherwise each source is tried in turn (after
    ``ANTIALIASED_ZOO_MIRROR``, if that is set). Nothing appears under the file's name before its SHA-256
    has been checked, and no switch turns the check off.

    Args:
        wanted: a manifest's entry.
        progress: show a bar, if this is a terminal.
        patience: how long to wait for what.

    Raises:
        OfflineError: the cache has no good copy, and ``HF_HUB_OFFLINE`` or ``ANTIALIASED_ZOO_OFFLINE`` is set.
        SourcesFailedError: no source gave the file; each is listed with its reason.
        PinError: a copy fits the short public digest, but is not the one first seen.
        CacheError: the cache folder cannot be used.

    Example:
        >>> from antialiased_zoo import manifest
        >>> path = fetch(manifest.load().find("resnet50", 3, "timm_bt"))  # doctest: +SKIP
    """
    folder = cache.folder()
    for file in wanted.files:
        if (path := _present(file, folder)) is not None:
            return path
    if is_offline():
        raise OfflineError(
            f"{_wanted(wanted)} is not in the cache, and {' or '.join(OFFLINE)} forbids the network.\n"
            + _by_hand(wanted, folder)
        )
    cache.make(folder)
    reasons: list[tuple[str, str]] = []
    for file in wanted.files:
        path = _fetch_file(Job(file, folder / file.file, patience, progress), reasons)
        if path is not None:
            if wanted.notice:
                warnings.warn(wanted.notice, LicenseWarning, stacklevel=2)
            return path
    listed = "\n".join(f"  {source}: {reason}" for source, reason in reasons)
    raise SourcesFailedError(f"could not get {_wanted(wanted)}:\n{listed}\n{_by_hand(wanted, folder)}", reasons)


def cached(wanted: Fetchable) -> Path | None:
    """Return the verified local copy, or ``None`` if there is none yet; never uses the network.

    Raises:
        PinError: a copy fits the short public digest, but is not the one first seen.
        CacheError: a copy cannot be read.
    """
    folder = cache.folder()
    return next((path for file in wanted.files if (path := _present(file, folder)) is not None), None)


def is_offline() -> bool:
    """Tell whether an environment variable forbids the network."""
    return any(os.environ.get(name, "").upper() in _TRUE for name in OFFLINE)


def _present(file: WeightsFile, folder: Path) -> Path | None:
    inside = [(packaged(source), False) for source in file.sources if source.startswith("package:")]
    for path, stamped in (*inside, (folder / file.file, True)):
        try:
            stamps.check(path, file, stamped=stamped)
        except PinError:
            raise
        except (FileNotFoundError, NotADirectoryError, DigestError):
            continue
        return path
    return None


def _fetch_file(job: Job, reasons: list[tuple[str, str]]) -> Path | None:
    with exclusive(job.target, job.patience.lock) as held:
        cache.sweep(job.target)
        if (path := _present(job.file, job.target.parent)) is not None:
            return path  # another process was faster
        if job.target.exists():
            bad = cache.quarantine(job.target)
            warnings.warn(f"{job.target} was not the file wanted; it is now {bad.name}", stacklevel=4)
        part = Part(job.target, "" if held else cache.private_name())
        try:
            return job.target if _from_any_source(job, part, reasons) else None
        finally:
            if not held:
                part.discard()


def _from_any_source(job: Job, part: Part, reasons: list[tuple[str, str]]) -> bool:
    for source in _with_mirror(job.file):
        try:
            digest = obtain(source, job, part)
        except (SourceError, DigestError) as error:
            _log.info("%s: %s", redacted(source), error)
            reasons.append((redacted(source), str(error)))
            continue
        with cache.disk_errors(job.target.parent):
            cache.publish(part.path, job.target)
            part.forget()
            stamps.write(job.target, stamps.Stamp.of(digest, job.target.stat()))
        return True
    return False


def _with_mirror(file: WeightsFile) -> Iterator[str]:
    base = os.environ.get(MIRROR, "").strip()
    if base:
        try:
            check_url(redacted(base))
        except ValueError as error:
            raise ValueError(f"{MIRROR}: {error}") from None
        yield f"{base.rstrip('/')}/{quote(file.file)}"
    yield from file.sources


def _wanted(wanted: Fetchable) -> str:
    return " or ".join(
        f"{file.file} (SHA-256 {'' if file.sha256 else 'beginning '}{file.digest})" for file in wanted.files
    )


def _by_hand(wanted: Fetchable, folder: Path) -> str:
    return (
        f"Put a copy of {wanted.files[0].file} into {folder} and try again: it is checked and used. Or name a server "
        f"that has it in {MIRROR}."
    )


@dataclass(frozen=True)
class Verdict:
    """What re-reading one cached file found.

    Attributes:
        path: the file.
        status: ``"ok"``, ``"quarantined"`` (renamed, see ``detail``) or ``"unreadable"``.
        detail: the digest, or what is wrong.
    """

    path: Path
    status: str
    detail: str


def verify(wanted: Iterable[Fetchable]) -> Iterator[Verdict]:
    """Hash every cached file anew, whatever its stamp says, and move those that fail out of the way.

    Args:
        wanted: entries of the manifest; those without a cached file are passed over.

    Example:
        >>> from antialiased_zoo import manifest
        >>> all(verdict.status == "ok" for verdict in verify(manifest.load()))
        True
    """
    folder = cache.folder()
    for file in (file for one in wanted for file in one.files):
        paths = [packaged(source) for source in file.sources if source.startswith("package:")]
        for path in (*paths, folder / file.file):
            if path.exists():
                yield _verdict(path, file, may_move=path.parent == folder)
        made = cache.converted(folder / file.file)
        if made.exists():
            yield _verdict_of_converted(made)


def _verdict(path: Path, file: WeightsFile, may_move: bool) -> Verdict:
    try:
        return Verdict(path, "ok", stamps.check(path, file, rehash=True, stamped=may_move))
    except DigestError as error:
        return _moved(path, str(error)) if may_move else Verdict(path, "unreadable", str(error))
    except FetchError as error:
        return Verdict(path, "unreadable", str(error))


def _verdict_of_converted(path: Path) -> Verdict:
    digest = stamps.intact(path, rehash=True)
    if digest is None:
        return _moved(path, "not what was written when it was converted")
    return Verdict(path, "ok", digest)


def _moved(path: Path, reason: str) -> Verdict:
    try:
        return Verdict(path, "quarantined", f"{reason}; now {cache.quarantine(path).name}")
    except CacheError as error:
        return Verdict(path, "unreadable", f"{reason}; {error}")
