"""Explicit control of how much freed memory glibc keeps; nothing in the package calls it."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_LARGEST_BLOCK = 48 << 20
_KEPT = 1 << 30
_GLIBC_DEFAULT = 128 << 10


def keep_freed_memory(keep: bool = True) -> bool:
    """Let glibc keep freed memory for the next call instead of returning it to the kernel.

    By default glibc returns freed blocks of more than 128 KiB (later up to 32 MiB) to the kernel.
    A network that frees tens of megabytes per call then gets the same memory back page by page,
    which can cost more than its blurs. This call sets `mallopt(3)`'s ``M_MMAP_THRESHOLD`` to 48 MiB
    and ``M_TRIM_THRESHOLD`` to 1 GiB for the whole process. The cost: the process may hold up to
    1 GiB of unused memory. The package never makes this call by itself.

    Args:
        keep: True keeps freed memory. False sets both thresholds back to glibc's 128 KiB and
            returns free memory to the kernel. (glibc's automatic raising of the thresholds stays
            off until the process ends.)

    Returns:
        True if the settings were made; False if ``mallopt`` refuses them or is missing (macOS, Windows, musl).

    Example:
        >>> keep_freed_memory() == keep_freed_memory(False)
        True
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # musl
        return False
    block, kept = (_LARGEST_BLOCK, _KEPT) if keep else (_GLIBC_DEFAULT, _GLIBC_DEFAULT)
    done = libc.mallopt(_M_MMAP_THRESHOLD, block) and libc.mallopt(_M_TRIM_THRESHOLD, kept)
    if not keep:
        libc.malloc_trim(0)
    return bool(done)
