"""Stamps: records of a file's verification, so that it is not repeated on every load.

A stamp ``NAME.verified`` next to a file holds its SHA-256, and the file's size, inode and
modification time. While these are unchanged, the file is not hashed again. The stamp outlives the
file: if only a prefix of the digest is public, the stamp pins the rest.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from ...errors import CacheError, DigestError, PinError, warn
from ..regular import open_regular, read_small, reopen
from ..weights_file import WeightsFile
from .cache import STAMP, beside
from .digest import sha256

_LENGTH, _LARGEST = 256, 4096


@dataclass(frozen=True)
class Stamp:
    """The result of verifying a file, and the file's state at that time.

    Attributes:
        sha256: The file's digest.
        size: Size in bytes.
        inode: Inode number.
        mtime_ns: Time of the last modification, in nanoseconds.
        ctime_ns: Time of the last change of the file or its metadata, which cannot be set back, in
            nanoseconds.
        finite: True if its tensors were checked to hold no NaN and no infinity.
    """

    sha256: str
    size: int
    inode: int
    mtime_ns: int
    ctime_ns: int
    finite: bool = False

    @classmethod
    def of(cls, digest: str, stat: os.stat_result, finite: bool = False) -> Stamp:
        """Make the stamp of a file with this digest and state."""
        return cls(digest, stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, finite)

    def fits(self, stat: os.stat_result) -> bool:
        """True if the file is still in the state in which it was verified."""
        return self == Stamp.of(self.sha256, stat, self.finite)


def read(path: Path) -> Stamp | None:
    """Return a file's stamp, or ``None`` if there is no readable one."""
    try:
        facts = json.loads(read_small(beside(path, STAMP), _LARGEST))
        stamp = Stamp(**{f.name: facts[f.name] for f in fields(Stamp)})
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    kinds = [type(value) for value in asdict(stamp).values()]
    return stamp if kinds == [str, int, int, int, int, bool] and len(stamp.sha256) == 64 else None


def write(path: Path, stamp: Stamp) -> None:
    """Write a file's stamp; in a read-only folder nothing is written, and files are hashed every time.

    One write of constant length: it cannot be interrupted halfway, and needs no temporary file.
    """
    record = json.dumps(asdict(stamp)).encode().ljust(_LENGTH)
    with contextlib.suppress(OSError), reopen(beside(path, STAMP)) as file:
        file.write(record)
        file.truncate(_LENGTH)


def stamp(path: Path, *, finite: bool) -> None:
    """Hash a file that this package has just written, and write its stamp."""
    digest, state = _digest(path)
    write(path, Stamp.of(digest, state, finite))


def _digest(path: Path, stamp: Stamp | None = None) -> tuple[str, os.stat_result]:
    """Return a file's digest, from its stamp if that fits, and the file's state."""
    with open_regular(path) as data:
        state = os.fstat(data.fileno())
        return (stamp.sha256 if stamp and stamp.fits(state) else sha256(data)), state


def mark_finite(path: Path) -> None:
    """Record in a verified file's stamp that its tensors hold no NaN and no infinity."""
    seen = read(path)
    if seen is not None and not seen.finite and seen.fits(path.stat()):
        write(path, replace(seen, finite=True))


def check(path: Path, file: WeightsFile, *, rehash: bool = False, stamped: bool = True) -> str:
    """Verify the file at ``path`` and return its SHA-256.

    Args:
        path: The file.
        file: The expected file.
        rehash: Hash it even if its stamp fits.
        stamped: Keep a stamp next to it.

    Raises:
        FileNotFoundError, NotADirectoryError: There is no such file.
        DigestError: It is another file.
        PinError: It matches the public prefix of the digest, but not the digest pinned when it was
            first seen.
        CacheError: It cannot be read.
    """
    stamp = read(path) if stamped else None
    try:
        digest, state = _digest(path, None if rehash else stamp)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise CacheError(f"cannot read {path}: {error.strerror or error}") from error
    if not file.accepts(digest):
        raise DigestError(f"{path} has the SHA-256 {digest}, expected {file.digest}")
    check_pin(path, digest)
    fresh = Stamp.of(digest, state, finite=stamp is not None and stamp.finite and stamp.sha256 == digest)
    if stamped and stamp != fresh:
        if stamp is None:
            say_short(path, file, digest, "a copy put there by hand")
        write(path, fresh)
    return digest


def intact(path: Path, *, rehash: bool = False) -> str | None:
    """Return the SHA-256 of a file that this package wrote, or ``None`` if it has changed since."""
    stamp = read(path)
    if stamp is None:
        return None
    try:
        digest, state = _digest(path, None if rehash else stamp)
    except OSError:
        return None
    if digest != stamp.sha256:
        return None
    if not stamp.fits(state):
        write(path, Stamp.of(digest, state, stamp.finite))
    return digest


def check_pin(path: Path, digest: str) -> None:
    """Compare a digest with the one pinned for ``path`` when the file was first seen.

    Raises:
        PinError: They differ.
    """
    stamp = read(path)
    if stamp is not None and stamp.sha256 != digest and stamp.sha256[:8] == digest[:8]:
        raise PinError(
            f"{path.name} has the SHA-256 {digest}, but {stamp.sha256} was pinned when it was first seen. One of the "
            f"two is forged. If you are sure that the new one is right, remove {beside(path, STAMP)} and try again."
        )


class ShortDigestWarning(UserWarning):
    """A file that does not come from its author's servers was checked against only a few hex digits."""


def say_short(path: Path, file: WeightsFile, digest: str, origin: str) -> None:
    """Warn that only a prefix of a file's digest could be checked, unless the full digest is public.

    Args:
        path: Path of the file.
        file: The expected file.
        digest: The file's digest, all 64 hex digits.
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
    """True if the file, in its current state, was checked to hold no NaN and no infinity."""
    seen = read(path)
    return seen is not None and seen.finite and seen.fits(path.stat())
