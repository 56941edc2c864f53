"""File locks: one process at a time per file, if the file system supports locks."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

_log = logging.getLogger(__name__)
# Seconds to wait before logging it.
_SILENT = 5.0


@contextlib.contextmanager
def exclusive(path: Path, timeout: float) -> Iterator[bool]:
    """Hold the lock of ``path`` during the block; yields whether it is really held.

    The kernel releases the lock of a process that dies, so no lock is ever stale. If locks do not
    work (on some network file systems), or another process holds it for longer than ``timeout``,
    the block runs without it: callers must then write to private files, and the last complete one
    is kept.

    Args:
        path: The file that is about to be created.
        timeout: Seconds to wait.
    """
    from filelock import FileLock, Timeout, UnixFileLock

    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        try:
            lock.acquire(timeout=min(timeout, _SILENT))
        except Timeout:
            _log.warning("waiting for another process to finish %s", path)
            lock.acquire(timeout=max(timeout - _SILENT, 0))
    except (Timeout, OSError, NotImplementedError) as error:
        _log.warning("continuing without the lock for %s: %s", path, error)
        yield False
        return
    try:
        yield True
    finally:
        # Removed while it is held: waiting processes see that its inode is gone, and create a new
        # one. The other kinds of lock files (on Windows, and the fallback) are removed on release.
        if isinstance(lock, UnixFileLock):
            with contextlib.suppress(OSError):
                Path(lock.lock_file).unlink()
        lock.release()
