"""The body is another file, a page, too short, too long or without end."""

from __future__ import annotations

from fault_handler import FaultHandler

from .registry import fault, half

HTML = b"<!DOCTYPE html><html><body>Please log in to continue.</body></html>"


@fault
def truncated(h: FaultHandler) -> None:
    """sends half, and calls it all"""
    h.send(content=h.content[: half(h)], start=0)


@fault
def long(h: FaultHandler) -> None:
    """sends more than it promised"""
    h.head(len(h.content))
    h.wfile.write(h.content + b"more")


@fault
def longer(h: FaultHandler) -> None:
    """promises and sends more than the file"""
    h.send(content=h.content + b"more", start=0)


@fault
def endless(h: FaultHandler) -> None:
    """never stops sending"""
    h.head(None, ETag="")
    while True:
        h.wfile.write(bytes(65536))


@fault
def error_endless(h: FaultHandler) -> None:
    """503 with a body without end"""
    h.head(None, 503)
    while True:
        h.wfile.write(bytes(65536))


@fault
def wrong(h: FaultHandler) -> None:
    """a file with one bit changed"""
    h.send(content=h.content[:-1] + bytes([h.content[-1] ^ 1]))


@fault
def html(h: FaultHandler) -> None:
    """a login page with status 200"""
    h.content = HTML
    h.head(len(HTML), Content_Type="text/html; charset=utf-8")
    h.wfile.write(HTML)


@fault
def html_unsaid(h: FaultHandler) -> None:
    """a login page that calls itself a file"""
    h.head(len(HTML), Content_Type="application/octet-stream")
    h.wfile.write(HTML)


@fault
def unsaid_once(h: FaultHandler) -> None:
    """states no length, and closes in mid-body, once"""
    start = h.start()
    whole = h.content[start:]
    span = f"bytes {start}-{len(h.content) - 1}/{len(h.content)}" if start else ""
    h.head(None, 206 if start else 200, Content_Range=span)
    h.wfile.write(whole[: len(whole) // 2] if h.nth == 1 else whole)
