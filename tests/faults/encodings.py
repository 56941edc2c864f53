"""The body is chunked or compressed, rightly or not."""

from __future__ import annotations

import gzip
import time

from fault_handler import FaultHandler

from .registry import fault, half, raw


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
    h.wfile.write(b"%x\r\n%s" % (len(h.content), h.content[: half(h)]))


@fault
def bad_chunk(h: FaultHandler) -> None:
    """states a chunk of exabytes, then a negative one"""
    h.head(None, Transfer_Encoding="chunked")
    h.wfile.write((b"f" * 20 if h.nth == 1 else b"-5") + b"\r\n" + h.content)


@fault
def slow_chunk(h: FaultHandler) -> None:
    """drips the extension of a chunk's size"""
    h.head(None, Transfer_Encoding="chunked")
    h.wfile.write(b"10;")
    while True:
        h.wfile.write(b"x")
        time.sleep(0.1)


@fault
def endless_trailer(h: FaultHandler) -> None:
    """sends all, and then a trailer without end"""
    h.head(None, Transfer_Encoding="chunked")
    h.wfile.write(b"%x\r\n%s\r\n0\r\n" % (len(h.content), h.content))
    while True:
        h.wfile.write(b"X-Filler: x\r\n")
        time.sleep(0.001)


def _send(h: FaultHandler, body: bytes, encoding: str = "gzip") -> None:
    """A complete answer that claims this encoding."""
    h.head(len(body), Content_Encoding=encoding)
    h.wfile.write(body)


@fault
def gzipped(h: FaultHandler) -> None:
    """compresses, unasked"""
    _send(h, gzip.compress(h.content, 1))


@fault
def gzip_bomb(h: FaultHandler) -> None:
    """compressed data that grows a thousandfold"""
    _send(h, gzip.compress(bytes(16 * 1024 * 1024), 1))


@fault
def gzip_broken(h: FaultHandler) -> None:
    """claims compression, without"""
    _send(h, h.content)


@fault
def gzip_junk(h: FaultHandler) -> None:
    """compresses, and sends junk after it"""
    _send(h, gzip.compress(h.content, 1) + b"junk" * 10)


@fault
def gzip_cut_once(h: FaultHandler) -> None:
    """compresses, and closes in the middle, once"""
    packed = gzip.compress(h.content, 1)
    h.head(len(packed), Content_Encoding="gzip")
    h.wfile.write(packed[: len(packed) // 2] if h.nth == 1 else packed)


@fault
def gzip_cut(h: FaultHandler) -> None:
    """compresses, and always closes in the middle, as if that were all"""
    _send(h, gzip.compress(h.content, 1)[:-1000])


@fault
def brotli(h: FaultHandler) -> None:
    """claims a compression that was not asked for"""
    _send(h, h.content, "br")


@fault
def no_encoding(h: FaultHandler) -> None:
    """names its compression by an empty word"""
    raw(h, "HTTP/1.1 200 OK", f"Content-Length: {len(h.content)}", "Content-Encoding: ")
    h.wfile.write(h.content)
