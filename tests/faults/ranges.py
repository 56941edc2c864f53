"""What is resumed: ranges that are ignored, refused or wrong, and files that change between two requests."""

from __future__ import annotations

from fault_handler import FaultHandler

from .registry import fault, half


@fault
def range_ignored(h: FaultHandler) -> None:
    """closes once, then sends all again instead of the rest"""
    h.send(stop=half(h) if h.nth == 1 else None, start=0)


@fault
def range_refused(h: FaultHandler) -> None:
    """closes once, then 416"""
    if h.start():
        h.refuse(416)
    else:
        h.send(stop=half(h) if h.nth == 1 else None)


@fault
def range_never(h: FaultHandler) -> None:
    """closes in mid-body, then 416, in turn and for ever"""
    h.refuse(416) if h.start() else h.send(stop=half(h))


@fault
def range_shifted(h: FaultHandler) -> None:
    """closes once, then sends another range than asked for"""
    if h.start():
        size = len(h.content)
        h.head(size - 1, 206, Content_Range=f"bytes 1-{size - 1}/{size}")
        h.wfile.write(h.content[1:])
    else:
        h.send(stop=half(h) if h.nth == 1 else None)


@fault
def range_always_shifted(h: FaultHandler) -> None:
    """closes in mid-body, then sends another range than asked for, in turn and for ever"""
    if h.start():
        h.head(1, 206, Content_Range=f"bytes 0-0/{len(h.content)}")
        h.wfile.write(h.content[:1])
    else:
        h.send(stop=half(h))


@fault
def part_unasked(h: FaultHandler) -> None:
    """sends a range that nobody asked for"""
    h.head(10, 206, Content_Range=f"bytes 5-14/{len(h.content)}")
    h.wfile.write(h.content[5:15])


@fault
def changed(h: FaultHandler) -> None:
    """another version first, half of it; then the file"""
    if h.nth == 1:
        h.content, h.etag = bytes(len(h.content)), '"old"'
        h.send(stop=half(h), start=0)
    else:
        h.send()


@fault
def changed_silently(h: FaultHandler) -> None:
    """the same, under one validator"""
    if h.nth == 1:
        h.content = bytes(len(h.content))
        h.send(stop=half(h), start=0)
    else:
        h.send()


@fault
def total_unsaid(h: FaultHandler) -> None:
    """closes in mid-body once, then sends the rest as a range of a file of unknown length"""
    start, size = h.start(), len(h.content)
    if start:
        h.head(size - start, 206, Content_Range=f"bytes {start}-{size - 1}/*")
        h.wfile.write(h.content[start:])
    else:
        h.send(stop=size // 2)
