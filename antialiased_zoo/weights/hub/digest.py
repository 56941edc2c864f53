"""SHA-256 of files, computed in small chunks."""

from __future__ import annotations

import hashlib
import io

_CHUNK = 1024 * 1024


def sha256(file: io.RawIOBase | io.BufferedIOBase) -> str:
    """Return the SHA-256 of an open binary file, from its current position to its end, as 64 hex digits.

    It uses one megabyte of memory for any file size, and other threads can run meanwhile.

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
