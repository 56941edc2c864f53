"""The connection breaks, stalls or is no HTTP."""

from __future__ import annotations

import time

from fault_handler import FaultHandler

from .registry import fault, half


@fault
def reset_once(h: FaultHandler) -> None:
    """resets the connection in mid-body, once"""
    if h.nth > 1:
        h.send()
    else:
        h.send(stop=half(h))
        time.sleep(0.1)  # a reset overtakes bytes that were not read yet
        h.reset()


@fault
def reset_always(h: FaultHandler) -> None:
    """resets the connection after the header, always"""
    h.send(stop=0)
    h.reset()


@fault
def reset_at_once(h: FaultHandler) -> None:
    """resets the connection before any answer"""
    h.reset()


@fault
def short_once(h: FaultHandler) -> None:
    """closes in mid-body, once"""
    h.send(stop=half(h) if h.nth == 1 else None)


@fault
def short(h: FaultHandler) -> None:
    """never sends more than half"""
    h.send(stop=half(h))


@fault
def silent(h: FaultHandler) -> None:
    """accepts, and never answers"""
    time.sleep(30)


@fault
def stalled(h: FaultHandler) -> None:
    """stops in mid-body for ever"""
    h.send(stop=half(h))
    time.sleep(30)


@fault
def stalled_once(h: FaultHandler) -> None:
    """stops in mid-body, once"""
    stalled(h) if h.nth == 1 else h.send()


@fault
def drip(h: FaultHandler) -> None:
    """sends one byte at a time"""
    h.head(len(h.content))
    for byte in h.content:
        h.wfile.write(bytes([byte]))
        h.wfile.flush()
        time.sleep(0.05)


@fault
def not_http(h: FaultHandler) -> None:
    """speaks another protocol"""
    h.wfile.write(b"220 ftp.example.org ready\r\n")
