"""The folder of verified files: torch hub's ``checkpoints``, and the stamps that say what was verified.

A stamp ``NAME.verified`` beside a file holds the SHA-256 that was computed from it, bound to the file's
size, inode and modification time. While these fit, the file is not hashed again. The stamp outlives the
file: where only a digest's beginning is public, it pins the rest.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from .digest import sha256
from .errors import CacheError, DigestError, PinError
from .weights_file import WeightsFile

STAMP = ".verified"
QUARANTINE = ".bad"
CONVERTED = ".converted.safetensors"


def folder() -> Path:
    """Return torch hub's ``checkpoints`` folder, without importing torch for it.

    Raises:
        CacheError: there is no home folder to put it in.
    """
    hub = sys.modules.get("torch.hub")
    if hub is not None:  # the only case in which torch.hub.set_dir() can have been called
        path = Path(hub.get_dir())
    else:
        home = os.environ.get("TORCH_HOME") or os.path.join(
            os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch"
        )
        path = Path(os.path.expanduser(home), "hub")
    if str(path).startswith("~"):
        raise CacheError(f"there is no home folder to keep weights in ({path}); set TORCH_HOME to a folder")
    return path / "checkpoints"


def make(path: Path) -> None:
    """Create the cache folder if it is not there.

    Raises:
        CacheError: it cannot be created.
    """
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the local disk refuses into one error that says where and what to do.

    Raises:
        CacheError: in place of any ``OSError`` inside the block.
    """
    try:
        yield
    except (CacheError, DigestError):
        raise
    except OSError as error:
        raise CacheError(
            f"cannot use {path}: {error.strerror or error}. Free space, allow writing, or set TORCH_HOME to "
            "another folder (files go to TORCH_HOME/hub/checkpoints)."
        ) from error


@dataclass(frozen=True)
class Stamp:
    """What was found out about a file, and the file's state when it was.

    Attributes:
        sha256: its digest.
        size: bytes.
        inode: its number on its file system.
        mtime_ns: last modification, nanoseconds.
        finite: whether all of its tensors were seen to hold no NaN and no infinity.
    """

    sha256: str
    size: int
    inode: int
    mtime_ns: int
    finite: bool = False

    @classmethod
    def of(cls, digest: str, stat: os.stat_result, finite: bool = False) -> Stamp:
        """Bind a digest to the state of the file that it was computed from."""
        return cls(digest, stat.st_size, stat.st_ino, stat.st_mtime_ns, finite)

    def fits(self, stat: os.stat_result) -> bool:
        """Tell whether the file is still in the state in which it was verified."""
        return (self.size, self.inode, self.mtime_ns) == (stat.st_size, stat.st_ino, stat.st_mtime_ns)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def converted(path: Path) -> Path:
    """Return where the safetensors file made of a pickle is kept."""
    return _beside(path, CONVERTED)


def read_stamp(path: Path) -> Stamp | None:
    """Return a file's stamp, or ``None`` where there is no readable one."""
    try:
        facts = json.loads(_beside(path, STAMP).read_bytes())
        stamp = Stamp(**{f.name: facts[f.name] for f in fields(Stamp)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    kinds = [type(value) for value in asdict(stamp).values()]
    return stamp if kinds == [str, int, int, int, bool] and len(stamp.sha256) == 64 else None


def write_stamp(path: Path, stamp: Stamp) -> None:
    """Write a file's stamp; where the folder is read-only there is none, and files are hashed every time."""
    with contextlib.suppress(OSError), replacing(_beside(path, STAMP)) as temporary:
        temporary.write_text(json.dumps(asdict(stamp)), encoding="utf-8")


def stamp(path: Path, *, finite: bool) -> None:
    """Hash a file that this package has just written, and write its stamp."""
    with path.open("rb", buffering=0) as data:
        stat = os.fstat(data.fileno())
        digest = sha256(data)
    write_stamp(path, Stamp.of(digest, stat, finite))


def mark_finite(path: Path) -> None:
    """Note in a verified file's stamp that its tensors hold no NaN and no infinity."""
    seen = read_stamp(path)
    if seen is not None and not seen.finite and seen.fits(path.stat()):
        write_stamp(path, replace(seen, finite=True))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; at the end it takes the place of ``path`` at once, or is removed."""
    temporary = _beside(path, private_name() + ".tmp")
    try:
        yield temporary
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Make a complete file visible under its name: on the disk first, then renamed in one step."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def private_name() -> str:
    """Return the middle of a file name that no other process on any machine uses; see :func:`sweep`."""
    return f".{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def sweep(path: Path) -> None:
    """Remove what processes that were killed have left beside ``path`` under private names."""
    own = re.compile(
        re.escape(path.name) + r".*\.(?P<host>[^/]+)-(?P<pid>\d+)-[0-9a-f]{8}\.(tmp|part|part\.json)"
    )
    for sibling in path.parent.glob(glob.escape(path.name) + ".*"):
        match = own.fullmatch(sibling.name)
        if match and _is_dead(match["host"], int(match["pid"]), sibling):
            with contextlib.suppress(OSError):
                sibling.unlink()


def _is_dead(host: str, pid: int, path: Path) -> bool:
    if host == socket.gethostname() and os.name == "posix":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False
    # Another machine's process cannot be asked: a file that nobody has written to for a day is nobody's.
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime > 86400
    return False


def check(path: Path, file: WeightsFile, *, rehash: bool = False, stamped: bool = True) -> str:
    """Return the SHA-256 of the file at ``path`` after making sure that it is the one wanted.

    Args:
        path: the file.
        file: what it must be.
        rehash: read all of it, even if its stamp fits.
        stamped: keep a stamp beside it.

    Raises:
        FileNotFoundError: there is no such file.
        DigestError: it is another file.
        PinError: it has the public beginning of the digest, but not what was pinned on first sight.
        CacheError: it cannot be read.
    """
    stamp = read_stamp(path) if stamped else None
    try:
        with path.open("rb", buffering=0) as data:
            stat = os.fstat(data.fileno())
            if stamp and not rehash and stamp.fits(stat) and file.accepts(stamp.sha256):
                return stamp.sha256
            digest = sha256(data)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CacheError(f"cannot read {path}: {error.strerror or error}") from error
    if not file.accepts(digest):
        raise DigestError(f"{path} has the SHA-256 {digest}, wanted is {file.digest}")
    check_pin(path, digest)
    fresh = Stamp.of(digest, stat, finite=stamp is not None and stamp.finite)
    if stamped and stamp != fresh:
        write_stamp(path, fresh)
    return digest


def intact(path: Path, *, rehash: bool = False) -> str | None:
    """Return the SHA-256 of a file that this package made, or ``None`` if it is not as it was written."""
    stamp = read_stamp(path)
    if stamp is None:
        return None
    try:
        with path.open("rb", buffering=0) as data:
            stat = os.fstat(data.fileno())
            if stamp.fits(stat) and not rehash:
                return stamp.sha256
            digest = sha256(data)
    except OSError:
        return None
    if digest != stamp.sha256:
        return None
    write_stamp(path, Stamp.of(digest, stat, finite=stamp.finite))
    return digest


def check_pin(path: Path, digest: str) -> None:
    """Hold a digest against the one pinned for ``path`` when such a file was first seen.

    Raises:
        PinError: they differ.
    """
    stamp = read_stamp(path)
    if stamp is not None and stamp.sha256 != digest and stamp.sha256[:8] == digest[:8]:
        raise PinError(
            f"{path.name} has the SHA-256 {digest}, but {stamp.sha256} was pinned when it was first seen. One of the "
            f"two is forged. If you know the new one to be right, remove {_beside(path, STAMP)} and try again."
        )


def quarantine(path: Path) -> Path:
    """Move a file that failed its check out of the way, and what was made from it.

    Raises:
        CacheError: the folder does not allow it.
    """
    bad = _beside(path, QUARANTINE)
    with disk_errors(path.parent):
        os.replace(path, bad)
        for made in (converted(path), _beside(converted(path), STAMP)):
            made.unlink(missing_ok=True)
    return bad
