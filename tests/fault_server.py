"""An HTTP server on loopback that serves files with one fault per address.

``/FAULT/NAME`` serves ``NAME`` with that fault, ``/faults/FAULT/resolve/REVISION/NAME`` does so the way the Hugging
Face Hub does. It remembers every request. As a program it serves a folder until its standard input closes:

    python tests/fault_server.py FOLDER     (prints its port)
"""

from __future__ import annotations

import gzip
import hashlib
import io
import socket
import ssl
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

HTML = b"<!DOCTYPE html><html><body>Please log in to continue.</body></html>"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Request:
    """What one request asked for."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class FaultServer:
    """Serves the files of one folder; use as a context manager."""

    folder: Path
    redirect_to: str = ""
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> FaultServer:
        owner = self

        class Handler(_Handler):
            server_facts = owner

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if self.tls:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked(self, name: str) -> list[Request]:
        """Return the requests for one file; the hub's client asks for other things besides."""
        return [request for request in self.requests if request.path.endswith(name)]

    def count(self, path: str) -> int:
        """Count the requests for one address, this one included."""
        with self.lock:
            self.seen[path] += 1
            return self.seen[path]


class _Handler(BaseHTTPRequestHandler):
    server_facts: FaultServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_HEAD(self) -> None:  # http.server's name
        self._serve("HEAD")

    def do_GET(self) -> None:  # http.server's name
        self._serve("GET")

    def _serve(self, method: str) -> None:
        self.server_facts.requests.append(
            Request(method, self.path, {name.title(): value for name, value in self.headers.items()})
        )
        self.close_connection = True
        # As a proxy it would be asked for a whole URL.
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        self.hub = len(parts) == 5 and parts[0] == "faults" and parts[2] == "resolve"
        fault, name = (parts[1], parts[4]) if self.hub else (parts[0], parts[-1])
        path = self.server_facts.folder / name
        if not path.is_file() or not (fault.isdigit() or fault in FAULTS):
            self.refuse(404)
            return
        self.content = path.read_bytes()
        self.etag = f'"{hashlib.sha256(self.content).hexdigest()}"'
        try:
            if fault.isdigit():
                self.refuse(int(fault))
            elif method == "HEAD":
                self.head(len(self.content))
            else:
                self.nth = self.server_facts.count(self.path)
                FAULTS[fault](self)
        except OSError:
            pass  # the client has gone

    # What faults are made of.

    def head(self, length: int | None, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if "ETag" not in headers:
            self.send_header("ETag", self.etag)
        if self.hub:
            self.send_header("X-Repo-Commit", COMMIT)
        for name, value in headers.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()

    def refuse(self, status: int, **headers: str) -> None:
        body = b"" if self.command == "HEAD" else b"no"
        self.etag = '"none"'
        self.head(len(body), status, **headers)
        self.wfile.write(body)

    def start(self) -> int:
        """Return where a range begins that was asked for under the right validator."""
        asked, condition = self.headers.get("Range", ""), self.headers.get("If-Range", self.etag)
        return int(asked[6:-1]) if asked.startswith("bytes=") and condition == self.etag else 0

    def send(self, stop: int | None = None, content: bytes | None = None, start: int | None = None) -> None:
        """Answer with the file, or the range of it that was asked for, but stop after ``stop`` bytes of the whole."""
        content = self.content if content is None else content
        start = self.start() if start is None else start
        if start:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.head(len(content) - start, 206, Content_Range=span)
        else:
            self.head(len(content))
        self.wfile.write(content[start : len(content) if stop is None else max(stop, start)])
        self.wfile.flush()

    def reset(self) -> None:
        """Break the connection off with a reset instead of an orderly end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RD)
        self.rfile.close()
        self.wfile.close()
        self.connection.close()
        self.wfile = io.BytesIO()  # http.server flushes it once more


FAULTS: dict[str, Callable[[_Handler], None]] = {}


def fault(function: Callable[[_Handler], None]) -> Callable[[_Handler], None]:
    """Make a function the fault of its name."""
    FAULTS[function.__name__] = function
    return function


@fault
def good(h: _Handler) -> None:
    """sends the file"""
    h.send()


@fault
def busy(h: _Handler) -> None:
    """503 twice, then the file"""
    h.refuse(503) if h.nth <= 2 else h.send()


@fault
def later(h: _Handler) -> None:
    """429 with Retry-After: 1, then the file"""
    h.refuse(429, Retry_After="1") if h.nth == 1 else h.send()


@fault
def much_later(h: _Handler) -> None:
    """429 with Retry-After: one day"""
    h.refuse(429, Retry_After="86400")


def _half(h: _Handler) -> int:
    return len(h.content) // 2


@fault
def reset_once(h: _Handler) -> None:
    """resets the connection in mid-body, once"""
    if h.nth > 1:
        h.send()
    else:
        h.send(stop=_half(h))
        time.sleep(0.1)  # a reset overtakes bytes that were not read yet
        h.reset()


@fault
def reset_always(h: _Handler) -> None:
    """resets the connection after the header, always"""
    h.send(stop=0)
    h.reset()


@fault
def reset_at_once(h: _Handler) -> None:
    """resets the connection before any answer"""
    h.reset()


@fault
def short_once(h: _Handler) -> None:
    """closes in mid-body, once"""
    h.send(stop=_half(h) if h.nth == 1 else None)


@fault
def short(h: _Handler) -> None:
    """never sends more than half"""
    h.send(stop=_half(h))


@fault
def truncated(h: _Handler) -> None:
    """sends half, and calls it all"""
    h.send(content=h.content[: _half(h)], start=0)


@fault
def long(h: _Handler) -> None:
    """sends more than it promised"""
    h.head(len(h.content))
    h.wfile.write(h.content + b"more")


@fault
def longer(h: _Handler) -> None:
    """promises and sends more than the file"""
    h.send(content=h.content + b"more", start=0)


@fault
def endless(h: _Handler) -> None:
    """never stops sending"""
    h.head(None, ETag="")
    while True:
        h.wfile.write(bytes(65536))


@fault
def no_length(h: _Handler) -> None:
    """states no length"""
    h.head(None)
    h.wfile.write(h.content)


@fault
def chunked(h: _Handler) -> None:
    """sends in chunks"""
    h.head(None, Transfer_Encoding="chunked")
    for start in range(0, len(h.content), 5000):
        piece = h.content[start : start + 5000]
        h.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    h.wfile.write(b"0\r\n\r\n")


@fault
def chunked_broken(h: _Handler) -> None:
    """closes in mid-chunk"""
    h.head(None, Transfer_Encoding="chunked")
    h.wfile.write(b"%x\r\n%s" % (len(h.content), h.content[: _half(h)]))


@fault
def bad_length(h: _Handler) -> None:
    """states a negative length"""
    h.head(None, Content_Length="-5")
    h.wfile.write(h.content)


@fault
def silent(h: _Handler) -> None:
    """accepts, and never answers"""
    time.sleep(30)


@fault
def stalled(h: _Handler) -> None:
    """stops in mid-body for ever"""
    h.send(stop=_half(h))
    time.sleep(30)


@fault
def stalled_once(h: _Handler) -> None:
    """stops in mid-body, once"""
    stalled(h) if h.nth == 1 else h.send()


@fault
def drip(h: _Handler) -> None:
    """sends one byte at a time"""
    h.head(len(h.content))
    for byte in h.content:
        h.wfile.write(bytes([byte]))
        h.wfile.flush()
        time.sleep(0.05)


@fault
def loop(h: _Handler) -> None:
    """redirects to itself"""
    h.refuse(302, Location=h.path)


@fault
def redirect(h: _Handler) -> None:
    """redirects to another host"""
    h.refuse(302, Location=h.server_facts.redirect_to + "/good/" + h.path.rpartition("/")[2])


@fault
def html(h: _Handler) -> None:
    """a login page with status 200"""
    h.content = HTML
    h.head(len(HTML), Content_Type="text/html; charset=utf-8")
    h.wfile.write(HTML)


@fault
def html_unsaid(h: _Handler) -> None:
    """a login page that calls itself a file"""
    h.head(len(HTML), Content_Type="application/octet-stream")
    h.wfile.write(HTML)


@fault
def gzipped(h: _Handler) -> None:
    """compresses, unasked"""
    packed = gzip.compress(h.content, 1)
    h.head(len(packed), Content_Encoding="gzip")
    h.wfile.write(packed)


@fault
def gzip_bomb(h: _Handler) -> None:
    """compressed data that grows a thousandfold"""
    packed = gzip.compress(bytes(16 * 1024 * 1024), 1)
    h.head(len(packed), Content_Encoding="gzip")
    h.wfile.write(packed)


@fault
def gzip_broken(h: _Handler) -> None:
    """claims compression, without"""
    h.head(len(h.content), Content_Encoding="gzip")
    h.wfile.write(h.content)


@fault
def range_ignored(h: _Handler) -> None:
    """closes once, then sends all again instead of the rest"""
    h.send(stop=_half(h) if h.nth == 1 else None, start=0)


@fault
def range_refused(h: _Handler) -> None:
    """closes once, then 416"""
    if h.start():
        h.refuse(416)
    else:
        h.send(stop=_half(h) if h.nth == 1 else None)


@fault
def range_shifted(h: _Handler) -> None:
    """closes once, then sends another range than asked for"""
    if h.start():
        size = len(h.content)
        h.head(size - 1, 206, Content_Range=f"bytes 1-{size - 1}/{size}")
        h.wfile.write(h.content[1:])
    else:
        h.send(stop=_half(h) if h.nth == 1 else None)


@fault
def changed(h: _Handler) -> None:
    """another version first, half of it; then the file"""
    if h.nth == 1:
        h.content, h.etag = bytes(len(h.content)), '"old"'
        h.send(stop=_half(h), start=0)
    else:
        h.send()


@fault
def changed_silently(h: _Handler) -> None:
    """the same, under one validator"""
    if h.nth == 1:
        h.content = bytes(len(h.content))
        h.send(stop=_half(h), start=0)
    else:
        h.send()


@fault
def wrong(h: _Handler) -> None:
    """a file with one bit changed"""
    h.send(content=h.content[:-1] + bytes([h.content[-1] ^ 1]))


def main() -> None:
    """Serve a folder for another process's tests."""
    with FaultServer(Path(sys.argv[1])) as server:
        print(server.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
