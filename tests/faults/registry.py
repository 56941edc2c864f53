"""The faults by name, and what several of them need."""

from __future__ import annotations

from collections.abc import Callable

from fault_handler import FaultHandler

FAULTS: dict[str, Callable[[FaultHandler], None]] = {}


def fault(function: Callable[[FaultHandler], None]) -> Callable[[FaultHandler], None]:
    """Make a function the fault of its name."""
    FAULTS[function.__name__] = function
    return function


@fault
def good(h: FaultHandler) -> None:
    """sends the file"""
    h.send()


def half(h: FaultHandler) -> int:
    """Return how many bytes are half of the file."""
    return len(h.content) // 2


def raw(h: FaultHandler, *lines: str) -> None:
    """Send a head that http.server itself would not."""
    h.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
