"""The cache folder of verified files (torch hub's ``checkpoints``), and the operations on its files."""

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
    """Return torch hub's ``checkpoints`` folder, without importing torch.

    Raises:
        CacheError: There is no home folder.
    """
    hub = sys.modules.get("torch.hub")
    if hub is not None:  # the only case in which torch.hub.set_dir() can have been called
        path = Path(hub.get_dir())
    else:
        # As torch does, also for an empty variable: the folder must not depend on whether torch is imported.
        home = os.environ.get("TORCH_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch"))
        path = Path(os.path.expanduser(home), "hub")
    if str(path).startswith("~"):
        raise CacheError(f"there is no home folder for the weights ({path}); set TORCH_HOME to a folder")
    return path / "checkpoints"


def make(path: Path) -> None:
    """Create the cache folder if it does not exist.

    Raises:
        CacheError: It cannot be created.
    """
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of the local disk into a project error that names the path and what to do.

    Raises:
        CacheError: Instead of any ``OSError`` inside the block.
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


def exists(path: Path) -> bool:
    """True if there is something at a path.

    Raises:
        CacheError: The path cannot be reached.
    """
    with disk_errors(path):
        return path.exists()


def beside(path: Path, suffix: str) -> Path:
    """Return the path of one of this package's files next to a weights file."""
    return path.with_name(path.name + suffix)


def converted(path: Path) -> Path:
    """Return the path of the safetensors file that a pickle is converted to."""
    return beside(path, CONVERTED)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it atomically replaces ``path`` at the end, or is removed on an error.

    Temporary files of ``path`` that killed processes have left are removed, too.
    """
    sweep(path)
    temporary = beside(path, private_name() + ".tmp")
    try:
        yield temporary
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Sync a complete file to disk, then rename it atomically."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def private_name() -> str:
    """Return a part of a file name that is unique among processes and machines; see :func:`sweep`."""
    return f".{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"


@functools.cache
def _machine() -> str:
    """Return an identifier of the process namespace: the machine, its boot and the container.

    Containers often share a host name, and each has a process 1.
    """
    facts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        facts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("/".join(facts).encode()).hexdigest()[:16]


def sweep(path: Path) -> None:
    """Remove the private files next to ``path`` that killed processes have left."""
    _sweep(path.parent, f"{path.name}.")


def sweep_folder(folder: Path) -> None:
    """Remove all private files in a folder that killed processes have left."""
    _sweep(folder, "")


def _sweep(folder: Path, start: str) -> None:
    own = re.compile(re.escape(start) + r"(.*\.)?(?P<machine>[^/]+)-(?P<pid>\d+)-[0-9a-f]{8}\.(tmp|part|part\.json)")
    for sibling in folder.glob(f"{glob.escape(start)}*"):
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
    # A process of another machine cannot be checked: it counts as dead if its file is unchanged for
    # a day.
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime > 86400
    return False


def quarantine(path: Path) -> Path:
    """Rename a file that failed its check, and remove the file converted from it.

    Raises:
        CacheError: The folder does not allow it.
    """
    bad = beside(path, QUARANTINE)
    with disk_errors(path.parent):
        os.replace(path, bad)
        for made in (converted(path), beside(converted(path), STAMP)):
            made.unlink(missing_ok=True)
    return bad
