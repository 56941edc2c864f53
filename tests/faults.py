"""The faults: how a server or the way to it can fail, each a function that answers one request.

A docstring says what the fault does, for the table that tests/weights/test_faults.py makes.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable

from fault_handler import FaultHandler

HTML = b"<!DOCTYPE html><html><body>Please log in to continue.</body></html>"

FAULTS: dict[str, Callable[[FaultHandler], None]] = {}


def fault(function: Callable[[FaultHandler], None]) -> Callable[[FaultHandler], None]:
    """Make a function the fault of its name."""
    FAULTS[function.__name__] = function
    return function


@fault
def good(h: FaultHandler) -> None:
    """sends the file"""
    h.send()


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


def _half(h: FaultHandler) -> int:
    return len(h.content) // 2


@fault
def reset_once(h: FaultHandler) -> None:
    """resets the connection in mid-body, once"""
    if h.nth > 1:
        h.send()
    else:
        h.send(stop=_half(h))
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
    h.send(stop=_half(h) if h.nth == 1 else None)


@fault
def short(h: FaultHandler) -> None:
    """never sends more than half"""
    h.send(stop=_half(h))


@fault
def truncated(h: FaultHandler) -> None:
    """sends half, and calls it all"""
    h.send(content=h.content[: _half(h)], start=0)


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
def no_length(h: FaultHandler) -> None:
    """states no length"""
    h.head(None)
    h.wfile.write(h.content)


@fault
def chunked(h: FaultHandler) -> None:
    """sends in chunks"""
    h.head(None, Transfer_Encoding="chunked")
    for start in range(0, len(h.content), 5000):
        piece = h.content[start : start + 5000]
        h.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    h.wfile.write(b"0\r\n\r\n")


@fault
def chunked_broken(h: FaultHandler) -> None:
    """closes in mid-chunk"""
    h.head(None, Transfer_Encoding="chunked")
    h.wfile.write(b"%x\r\n%s" % (len(h.content), h.content[: _half(h)]))


@fault
def bad_length(h: FaultHandler) -> None:
    """states a negative length"""
    h.head(None, Content_Length="-5")
    h.wfile.write(h.content)


@fault
def silent(h: FaultHandler) -> None:
    """accepts, and never answers"""
    time.sleep(30)


@fault
def stalled(h: FaultHandler) -> None:
    """stops in mid-body for ever"""
    h.send(stop=_half(h))
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
def loop(h: FaultHandler) -> None:
    """redirects to itself"""
    h.refuse(302, Location=h.path)


@fault
def redirect(h: FaultHandler) -> None:
    """redirects to another host"""
    h.refuse(302, Location=h.facts.redirect_to + "/good/" + h.path.rpartition("/")[2])


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
def gzipped(h: FaultHandler) -> None:
    """compresses, unasked"""
    packed = gzip.compress(h.content, 1)
    h.head(len(packed), Content_Encoding="gzip")
    h.wfile.write(packed)


@fault
def gzip_bomb(h: FaultHandler) -> None:
    """compressed data that grows a thousandfold"""
    packed = gzip.compress(bytes(16 * 1024 * 1024), 1)
    h.head(len(packed), Content_Encoding="gzip")
    h.wfile.write(packed)


@fault
def gzip_broken(h: FaultHandler) -> None:
    """claims compression, without"""
    h.head(len(h.content), Content_Encoding="gzip")
    h.wfile.write(h.content)


@fault
def range_ignored(h: FaultHandler) -> None:
    """closes once, then sends all again instead of the rest"""
    h.send(stop=_half(h) if h.nth == 1 else None, start=0)


@fault
def range_refused(h: FaultHandler) -> None:
    """closes once, then 416"""
    if h.start():
        h.refuse(416)
    else:
        h.send(stop=_half(h) if h.nth == 1 else None)


@fault
def range_shifted(h: FaultHandler) -> None:
    """closes once, then sends another range than asked for"""
    if h.start():
        size = len(h.content)
        h.head(size - 1, 206, Content_Range=f"bytes 1-{size - 1}/{size}")
        h.wfile.write(h.content[1:])
    else:
        h.send(stop=_half(h) if h.nth == 1 else None)


@fault
def changed(h: FaultHandler) -> None:
    """another version first, half of it; then the file"""
    if h.nth == 1:
        h.content, h.etag = bytes(len(h.content)), '"old"'
        h.send(stop=_half(h), start=0)
    else:
        h.send()


@fault
def changed_silently(h: FaultHandler) -> None:
    """the same, under one validator"""
    if h.nth == 1:
        h.content = bytes(len(h.content))
        h.send(stop=_half(h), start=0)
    else:
        h.send()


@fault
def wrong(h: FaultHandler) -> None:
    """a file with one bit changed"""
    h.send(content=h.content[:-1] + bytes([h.content[-1] ^ 1]))


def _raw(h: FaultHandler, *lines: str) -> None:
    """Send a head that http.server itself would not."""
    h.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1"))


@fault
def range_never(h: FaultHandler) -> None:
    """closes in mid-body, then 416, in turn and for ever"""
    h.refuse(416) if h.start() else h.send(stop=_half(h))


@fault
def range_always_shifted(h: FaultHandler) -> None:
    """closes in mid-body, then sends another range than asked for, in turn and for ever"""
    if h.start():
        h.head(1, 206, Content_Range=f"bytes 0-0/{len(h.content)}")
        h.wfile.write(h.content[:1])
    else:
        h.send(stop=_half(h))


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
def endless_trailer(h: FaultHandler) -> None:
    """sends all, and then a trailer without end"""
    h.head(None, Transfer_Encoding="chunked")
    h.wfile.write(b"%x\r\n%s\r\n0\r\n" % (len(h.content), h.content))
    while True:
        h.wfile.write(b"X-Filler: x\r\n")
        time.sleep(0.001)


@fault
def slow_chunk(h: FaultHandler) -> None:
    """drips the extension of a chunk's size"""
    h.head(None, Transfer_Encoding="chunked")
    h.wfile.write(b"10;")
    while True:
        h.wfile.write(b"x")
        time.sleep(0.1)


@fault
def redirect_drip(h: FaultHandler) -> None:
    """redirects, and drips a body with it"""
    h.head(None, 302, Location=h.path.replace("redirect_drip", "good"))
    while True:
        h.wfile.write(b"x")
        time.sleep(0.1)


@fault
def redirect_endless(h: FaultHandler) -> None:
    """redirects, with a body without end"""
    h.head(None, 302, Location=h.path.replace("redirect_endless", "good"))
    while True:
        h.wfile.write(bytes(65536))


@fault
def error_endless(h: FaultHandler) -> None:
    """503 with a body without end"""
    h.head(None, 503)
    while True:
        h.wfile.write(bytes(65536))


@fault
def redirect_unparsable(h: FaultHandler) -> None:
    """redirects to `http://[::1`"""
    h.refuse(302, Location="http://[::1")


@fault
def redirect_bytes(h: FaultHandler) -> None:
    """redirects to bytes that are no text"""
    _raw(h, "HTTP/1.1 302 Found", "Location: http://\xff\xfe/\x80", "Content-Length: 0")


@fault
def redirect_elsewhere(h: FaultHandler) -> None:
    """redirects to `http://` on another machine"""
    h.refuse(302, Location="HTTP://mirror.example.org/" + h.path)


@fault
def redirect_file(h: FaultHandler) -> None:
    """redirects to `file:///etc/passwd`"""
    h.refuse(302, Location="file:///etc/passwd")


@fault
def terminal(h: FaultHandler) -> None:
    """418, with a reason that clears the terminal"""
    _raw(h, "HTTP/1.1 418 \x1b[2J\x1b]0;owned\x07 teapot", "Content-Length: 0")


@fault
def not_http(h: FaultHandler) -> None:
    """speaks another protocol"""
    h.wfile.write(b"220 ftp.example.org ready\r\n")


@fault
def many_headers(h: FaultHandler) -> None:
    """sends ten thousand headers"""
    _raw(h, "HTTP/1.1 200 OK", *(f"X-{i}: x" for i in range(10_000)))


@fault
def brotli(h: FaultHandler) -> None:
    """claims a compression that was not asked for"""
    h.head(len(h.content), Content_Encoding="br")
    h.wfile.write(h.content)


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


@fault
def bad_chunk(h: FaultHandler) -> None:
    """states a chunk of exabytes, then a negative one"""
    h.head(None, Transfer_Encoding="chunked")
    h.wfile.write((b"f" * 20 if h.nth == 1 else b"-5") + b"\r\n" + h.content)


@fault
def two_lengths(h: FaultHandler) -> None:
    """states two lengths, the first of them wrong"""
    _raw(h, "HTTP/1.1 200 OK", "Content-Length: 5", f"Content-Length: {len(h.content)}")
    h.wfile.write(h.content)


@fault
def huge_length(h: FaultHandler) -> None:
    """states a length of 5,000 digits"""
    _raw(h, "HTTP/1.1 200 OK", "Content-Length: " + "9" * 5000)
    h.wfile.write(h.content)


@fault
def part_unasked(h: FaultHandler) -> None:
    """sends a range that nobody asked for"""
    h.head(10, 206, Content_Range=f"bytes 5-14/{len(h.content)}")
    h.wfile.write(h.content[5:15])


@fault
def redirect_no_host(h: FaultHandler) -> None:
    """redirects to a host whose name cannot be looked up"""
    h.refuse(302, Location="https://" + "a" * 70 + ".example.org/x")


@fault
def gzip_junk(h: FaultHandler) -> None:
    """compresses, and sends junk after it"""
    packed = gzip.compress(h.content, 1) + b"junk" * 10
    h.head(len(packed), Content_Encoding="gzip")
    h.wfile.write(packed)


@fault
def no_encoding(h: FaultHandler) -> None:
    """names its compression by an empty word"""
    _raw(h, "HTTP/1.1 200 OK", f"Content-Length: {len(h.content)}", "Content-Encoding: ")
    h.wfile.write(h.content)
