"""One process at a time per file, wherever the file system can say so."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

_log = logging.getLogger(__name__)
# Seconds to wait before saying so.
_SILENT = 5.0


@contextlib.contextmanager
def exclusive(path: Path, timeout: float) -> Iterator[bool]:
    """Hold the lock of ``path`` during the block; yield whether it is really held.

    The kernel frees the lock of a process that dies, so none is ever stale. Where locks do not work
    (some network file systems), or the holder is suspended for longer than ``timeout`` seconds, the
    block runs without: then callers must write to files of their own, and the last complete one
    wins.

    Args:
        path: the file that is about to be made.
        timeout: seconds to wait.
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
        _log.warning("going on without the lock for %s: %s", path, error)
        yield False
        return
    try:
        yield True
    finally:
        # Removed while it is held: who waits for it sees that its inode is gone, and takes a new
        # one. The other kinds of lock file, Windows' and the fallback's, go when they are released.
        if isinstance(lock, UnixFileLock):
            with contextlib.suppress(OSError):
                Path(lock.lock_file).unlink()
        lock.release()
