"""Memory that stays in hand between calls."""

from __future__ import annotations

from functools import cache

import torch

_LARGEST = 31 << 20  # just below the 32 MiB above which glibc never keeps a block


@cache
def keep_freed_memory() -> None:
    """Let the C library keep blocks of up to 31 MiB that are freed, 62 MiB in all, rather than give them back at once.

    What it gives back it has to ask for again at the next call, page by page, which takes longer than blurring what is
    then written there. glibc goes by the largest block of up to 32 MiB that it has seen freed (mallopt(3),
    M_MMAP_THRESHOLD): a program whose maps are all larger, or go in small parts, has shown it none, so this does.
    Nothing is written to the block, so that it costs no memory. With another C library, or where its settings were
    given, it changes nothing.
    """
    torch.empty(_LARGEST, dtype=torch.uint8, device="cpu")
