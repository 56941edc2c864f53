"""Putting the garbage collector off while something large is built."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_postponed() -> Iterator[None]:
    """No automatic garbage collection inside; afterwards as before.

    A network is thousands of objects, which sooner or later start a full collection: that walks everything that
    importing torch has left (0.1-0.2 s, most of the time of a load) and finds nothing, for building frees nothing.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
