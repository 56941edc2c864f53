"""SHA-256 of files that are larger than memory should have to hold."""

from __future__ import annotations

import hashlib
from typing import Protocol

_CHUNK = 1024 * 1024


class Readable(Protocol):
    """An open binary file, buffered or not."""

    def readinto(self, buffer: bytearray, /) -> int | None:
        """Fill the buffer from the file and return how much of it."""


def sha256(file: Readable) -> str:
    """Return the SHA-256 of an open binary file, from where it stands to its end, as 64 hex digits.

    One megabyte of memory, whatever the file's size; the interpreter is free for other threads
    meanwhile.

    Example:
        >>> import io
        >>> sha256(io.BytesIO(b""))[:8]
        'e3b0c442'
    """
    digest = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    while count := file.readinto(buffer):
        digest.update(view[:count])
    return digest.hexdigest()
