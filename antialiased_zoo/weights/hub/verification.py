"""Verifies every cached file again, and renames those that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import CacheError, DigestError, FetchError, ZooError
from ..weights_file import WeightsFile
from . import cache, stamps
from .fetching import Fetchable, in_place


@dataclass(frozen=True)
class Verdict:
    """The result of verifying one cached file.

    Attributes:
        path: The file.
        status: ``"ok"``, ``"quarantined"`` (renamed, see ``detail``) or ``"unreadable"``.
        detail: The digest, or the reason.
    """

    path: Path
    status: str
    detail: str


def verify(wanted: Iterable[Fetchable], same: Callable[[Path, Path], bool] | None = None) -> Iterator[Verdict]:
    """Hash every cached file again, ignoring its stamp, and rename those that fail.

    Args:
        wanted: Entries of the manifest; those without a cached file are skipped.
        same: Compares a converted file with its pickle (`checkpoints.holds_same`). Default: only
            the converted file's own digest is checked.

    Raises:
        CacheError: The cache folder cannot be reached.

    Example:
        >>> from antialiased_zoo.weights import manifest
        >>> all(verdict.status == "ok" for verdict in verify(manifest.load()))
        True
    """
    folder = cache.folder()
    for file in (file for one in wanted for file in one.files):
        for path in (*in_place(file), folder / file.file):
            if cache.exists(path):
                yield _verdict(path, file, may_move=path.parent == folder)
        source = folder / file.file
        made = cache.converted(source)
        if cache.exists(made):
            yield _verdict_of_converted(made, source, same if cache.exists(source) else None)


def _verdict(path: Path, file: WeightsFile, may_move: bool) -> Verdict:
    try:
        return Verdict(path, "ok", stamps.check(path, file, rehash=True, stamped=may_move))
    except FetchError as error:
        moves = may_move and isinstance(error, DigestError)
        return _moved(path, str(error)) if moves else Verdict(path, "unreadable", str(error))


def _verdict_of_converted(path: Path, source: Path, same: Callable[[Path, Path], bool] | None) -> Verdict:
    digest = stamps.intact(path, rehash=True)
    if digest is None:
        return _moved(path, "changed since it was converted")
    try:
        if same and not same(path, source):
            return _moved(path, f"its tensors differ from those of {source.name}")
    except (ZooError, OSError) as error:
        return _moved(path, f"cannot be compared with {source.name}: {error}")
    return Verdict(path, "ok", digest)


def _moved(path: Path, reason: str) -> Verdict:
    try:
        return Verdict(path, "quarantined", f"{reason}; now {cache.quarantine(path).name}")
    except CacheError as error:
        return Verdict(path, "unreadable", f"{reason}; {error}")
