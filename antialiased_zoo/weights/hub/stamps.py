"""Stamps: what was found out about a file, so that it need not be found out on every load.

A stamp ``NAME.verified`` beside a file holds the SHA-256 that was computed from it, bound to the
file's size, inode and modification time. While these fit, the file is not hashed again. The stamp
outlives the file: where only a digest's beginning is public, it pins the rest.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from ...errors import CacheError, DigestError, PinError
from ..regular import open_regular, read_small, reopen
from ..warning import warn
from ..weights_file import WeightsFile
from .cache import STAMP, beside
from .digest import sha256

_LENGTH, _LARGEST = 256, 4096


@dataclass(frozen=True)
class Stamp:
    """What was found out about a file, and the file's state when it was.

    Attributes:
        sha256: its digest.
        size: bytes.
        inode: its number on its file system.
        mtime_ns: last modification, nanoseconds.
        ctime_ns: last change of anything about it, which nobody can set back; 0 in a stamp of an
            older version.
        finite: whether all of its tensors were seen to hold no NaN and no infinity.
    """

    sha256: str
    size: int
    inode: int
    mtime_ns: int
    ctime_ns: int = 0
    finite: bool = False

    @classmethod
    def of(cls, digest: str, stat: os.stat_result, finite: bool = False) -> Stamp:
        """Bind a digest to the state of the file that it was computed from."""
        return cls(digest, stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, finite)

    def fits(self, stat: os.stat_result) -> bool:
        """Tell whether the file is still in the state in which it was verified."""
        return self == Stamp.of(self.sha256, stat, self.finite)


def read(path: Path) -> Stamp | None:
    """Return a file's stamp, or ``None`` where there is no readable one."""
    try:
        facts = json.loads(read_small(beside(path, STAMP), _LARGEST))
        stamp = Stamp(**{"ctime_ns": 0, **{f.name: facts[f.name] for f in fields(Stamp) if f.name in facts}})
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    kinds = [type(value) for value in asdict(stamp).values()]
    return stamp if kinds == [str, int, int, int, int, bool] and len(stamp.sha256) == 64 else None


def write(path: Path, stamp: Stamp) -> None:
    """Write a file's stamp; where the folder is read-only there is none, and files are hashed every time.

    In one write of constant length, so that no process can be killed halfway and no temporary file
    is left.
    """
    record = json.dumps(asdict(stamp)).encode().ljust(_LENGTH)
    with contextlib.suppress(OSError), reopen(beside(path, STAMP)) as file:
        file.write(record)
        file.truncate(_LENGTH)


def stamp(path: Path, *, finite: bool) -> None:
    """Hash a file that this package has just written, and write its stamp."""
    with open_regular(path) as data:
        stat = os.fstat(data.fileno())
        digest = sha256(data)
    write(path, Stamp.of(digest, stat, finite))


def mark_finite(path: Path) -> None:
    """Note in a verified file's stamp that its tensors hold no NaN and no infinity."""
    seen = read(path)
    if seen is not None and not seen.finite and seen.fits(path.stat()):
        write(path, replace(seen, finite=True))


def check(path: Path, file: WeightsFile, *, rehash: bool = False, stamped: bool = True) -> str:
    """Return the SHA-256 of the file at ``path`` after making sure that it is the one wanted.

    Args:
        path: the file.
        file: what it must be.
        rehash: read all of it, even if its stamp fits.
        stamped: keep a stamp beside it.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such file.
        DigestError: it is another file.
        PinError: it has the public beginning of the digest, but not what was pinned on first sight.
        CacheError: it cannot be read.
    """
    stamp = read(path) if stamped else None
    try:
        with open_regular(path) as data:
            stat = os.fstat(data.fileno())
            if stamp and not rehash and stamp.fits(stat) and file.accepts(stamp.sha256):
                return stamp.sha256
            digest = sha256(data)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise CacheError(f"cannot read {path}: {error.strerror or error}") from error
    if not file.accepts(digest):
        raise DigestError(f"{path} has the SHA-256 {digest}, wanted is {file.digest}")
    check_pin(path, digest)
    fresh = Stamp.of(digest, stat, finite=stamp is not None and stamp.finite and stamp.sha256 == digest)
    if stamped and stamp != fresh:
        if stamp is None:
            say_short(path, file, digest, "a copy put there by hand")
        write(path, fresh)
    return digest


def intact(path: Path, *, rehash: bool = False) -> str | None:
    """Return the SHA-256 of a file that this package made, or ``None`` if it is not as it was written."""
    stamp = read(path)
    if stamp is None:
        return None
    try:
        with open_regular(path) as data:
            stat = os.fstat(data.fileno())
            if stamp.fits(stat) and not rehash:
                return stamp.sha256
            digest = sha256(data)
    except OSError:
        return None
    if digest != stamp.sha256:
        return None
    write(path, Stamp.of(digest, stat, finite=stamp.finite))
    return digest


def check_pin(path: Path, digest: str) -> None:
    """Hold a digest against the one pinned for ``path`` when such a file was first seen.

    Raises:
        PinError: they differ.
    """
    stamp = read(path)
    if stamp is not None and stamp.sha256 != digest and stamp.sha256[:8] == digest[:8]:
        raise PinError(
            f"{path.name} has the SHA-256 {digest}, but {stamp.sha256} was pinned when it was first seen. One of the "
            f"two is forged. If you know the new one to be right, remove {beside(path, STAMP)} and try again."
        )


class ShortDigestWarning(UserWarning):
    """A file from elsewhere than its author's servers was checked by a few hex digits alone."""


def say_short(path: Path, file: WeightsFile, digest: str, origin: str) -> None:
    """Warn that a file is trusted for the beginning of its digest, unless all of it is public.

    Args:
        path: Where it is, or will be.
        file: What it must be.
        digest: All 64 hex digits of what it is.
        origin: Where it comes from.
    """
    if file.sha256 is None:
        warn(
            f"{path.name} comes from {origin}, and only {len(file.digest)} hex digits of its SHA-256 are public, which "
            f"can be forged within minutes. It has the SHA-256 {digest}, pinned from now on: compare it with one that "
            "you trust",
            ShortDigestWarning,
        )


def is_finite(path: Path) -> bool:
    """Tell whether the file, as it is now, was seen to hold no NaN and no infinity."""
    seen = read(path)
    return seen is not None and seen.finite and seen.fits(path.stat())
