"""Opens regular files only, for folders that others may write to: no pipes, no devices, no writing through links."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

# Windows has neither; it needs O_BINARY instead.
_NONBLOCK = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)


def open_regular(path: Path, *, follow: bool = True) -> io.FileIO:
    """Open a file for reading, unbuffered.

    Args:
        path: The file.
        follow: Whether it may be a symbolic link.

    Raises:
        OSError: It cannot be opened, or is a folder, pipe or device.
    """
    return os.fdopen(_checked(path, os.O_RDONLY | (0 if follow else _NOFOLLOW)), "rb", buffering=0)


def read_small(path: Path, most: int) -> bytes:
    """Return the content of one of this package's own small files.

    Raises:
        OSError: It cannot be read, is not a regular file, or has more than ``most`` bytes.
    """
    with open_regular(path, follow=False) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data


def reopen(path: Path, *, append: bool = False) -> io.FileIO:
    """Open a file for writing without truncating it; create it if it does not exist.

    Raises:
        OSError: It cannot be opened, or is a link (symbolic or hard), folder, pipe or device.
    """
    handle = _checked(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else 0) | _NOFOLLOW)
    if os.fstat(handle).st_nlink > 1:
        os.close(handle)
        raise OSError(errno.EMLINK, "has a second name (hard link)", str(path))
    return os.fdopen(handle, "ab" if append else "wb", buffering=0)


def _checked(path: Path, flags: int) -> int:
    handle = os.open(path, flags | _NONBLOCK, 0o666)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "is a pipe or a device, not a file", str(path))
