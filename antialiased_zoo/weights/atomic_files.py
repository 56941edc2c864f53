"""Files that appear complete or not at all, and the private files on the way to them."""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it atomically replaces ``path`` at the end, or is removed on an error.

    Temporary files of ``path`` that killed processes have left are removed, too.
    """
    sweep(path)
    temporary = path.with_name(f"{path.name}{private_name()}.tmp")
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
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8"))
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
