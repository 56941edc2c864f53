"""The folder of verified files, torch hub's ``checkpoints``, and how files get into and out of it."""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ...errors import CacheError, DigestError

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
        home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
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


def beside(path: Path, suffix: str) -> Path:
    """Return the path of one of this package's own files beside a weights file."""
    return path.with_name(path.name + suffix)


def converted(path: Path) -> Path:
    """Return where the safetensors file made of a pickle is kept."""
    return beside(path, CONVERTED)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; at the end it takes the place of ``path`` at once, or is removed."""
    temporary = beside(path, private_name() + ".tmp")
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
    return f".{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"


@functools.cache
def _machine() -> str:
    """Return what tells apart the places that count processes for themselves: machines, boots, containers.

    Containers often share a host's name, and each has a process 1.
    """
    facts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        facts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("/".join(facts).encode()).hexdigest()[:16]


def sweep(path: Path) -> None:
    """Remove what processes that were killed have left beside ``path`` under private names."""
    own = re.compile(re.escape(path.name) + r".*\.(?P<machine>[^/]+)-(?P<pid>\d+)-[0-9a-f]{8}\.(tmp|part|part\.json)")
    for sibling in path.parent.glob(glob.escape(path.name) + ".*"):
        match = own.fullmatch(sibling.name)
        if match and _is_dead(match["machine"], int(match["pid"]), sibling):
            with contextlib.suppress(OSError):
                sibling.unlink()


def _is_dead(machine: str, pid: int, path: Path) -> bool:
    if machine == _machine() and os.name == "posix":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False
    # Another machine's process cannot be asked: a file that nobody has written to for a day is
    # nobody's.
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime > 86400
    return False


def quarantine(path: Path) -> Path:
    """Move a file that failed its check out of the way, and what was made from it.

    Raises:
        CacheError: the folder does not allow it.
    """
    bad = beside(path, QUARANTINE)
    with disk_errors(path.parent):
        os.replace(path, bad)
        for made in (converted(path), beside(converted(path), STAMP)):
            made.unlink(missing_ok=True)
    return bad
