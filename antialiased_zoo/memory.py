"""Memory that stays in hand between calls."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

# Of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_LARGEST = 48 << 20
_KEPT = 1 << 30
SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@cache
def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 48 MiB, up to 1 GiB in all, rather than give them back at once.

    What it gives back it has to ask for again at the next call, page by page, which takes longer than blurring what is
    then written there. By itself it keeps no more than twice the largest block that it has seen freed, which a network
    on some images passes at every call. With another C library, or where its settings were given in the environment,
    this changes nothing.
    """
    if sys.platform == "linux" and not any(name in os.environ for name in SETTINGS):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _LARGEST)
            mallopt(_M_TRIM_THRESHOLD, _KEPT)
