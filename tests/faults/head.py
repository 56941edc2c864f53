"""The head is refused, wrong, slow or without end: its status, its lengths, its lines."""

from __future__ import annotations

import time

from fault_handler import FaultHandler

from .registry import fault, raw


@fault
def busy(h: FaultHandler) -> None:
    """503 twice, then the file"""
    h.refuse(503) if h.nth <= 2 else h.send()


@fault
def later(h: FaultHandler) -> None:
    """429 with Retry-After: 1, then the file"""
    h.refuse(429, Retry_After="1") if h.nth == 1 else h.send()


@fault
def much_later(h: FaultHandler) -> None:
    """429 with Retry-After: one day"""
    h.refuse(429, Retry_After="86400")


@fault
def terminal(h: FaultHandler) -> None:
    """418, with a reason that clears the terminal"""
    raw(h, "HTTP/1.1 418 \x1b[2J\x1b]0;owned\x07 teapot", "Content-Length: 0")


@fault
def no_length(h: FaultHandler) -> None:
    """states no length"""
    h.head(None)
    h.wfile.write(h.content)


@fault
def bad_length(h: FaultHandler) -> None:
    """states a negative length"""
    h.head(None, Content_Length="-5")
    h.wfile.write(h.content)


@fault
def two_lengths(h: FaultHandler) -> None:
    """states two lengths, the first of them wrong"""
    raw(h, "HTTP/1.1 200 OK", "Content-Length: 5", f"Content-Length: {len(h.content)}")
    h.wfile.write(h.content)


@fault
def huge_length(h: FaultHandler) -> None:
    """states a length of 5,000 digits"""
    raw(h, "HTTP/1.1 200 OK", "Content-Length: " + "9" * 5000)
    h.wfile.write(h.content)


@fault
def many_headers(h: FaultHandler) -> None:
    """sends ten thousand headers"""
    raw(h, "HTTP/1.1 200 OK", *(f"X-{i}: x" for i in range(10_000)))


@fault
def slow_header(h: FaultHandler) -> None:
    """sends its header one byte at a time"""
    h.wfile.write(b"HTTP/1.1 200 OK\r\nX-Filler: ")
    while True:
        h.wfile.write(b"x")
        time.sleep(0.1)


@fault
def endless_header(h: FaultHandler) -> None:
    """never stops sending one line of its header"""
    h.wfile.write(b"HTTP/1.1 200 OK\r\nX-Filler: ")
    while True:
        h.wfile.write(b"x" * 65536)


@fault
def endless_continue(h: FaultHandler) -> None:
    """answers `100 Continue` for ever"""
    while True:
        h.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


@fault
def early_hints(h: FaultHandler) -> None:
    """answers `103 Early Hints` twice, then sends the file"""
    h.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n" * 2)
    h.send()


@fault
def endless_hints(h: FaultHandler) -> None:
    """answers `103 Early Hints` for ever"""
    while True:
        h.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)
