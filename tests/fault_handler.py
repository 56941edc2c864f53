"""Answers HTTP requests for the files of a folder, with the means that faults are made of."""

from __future__ import annotations

import hashlib
import io
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Request:
    """What one request asked for."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Facts:
    """What all answers of one server share."""

    folder: Path
    redirect_to: str = ""
    requests: list[Request] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def asked(self, name: str) -> list[Request]:
        """Return the requests for one file; the hub's client asks for other things besides."""
        return [request for request in self.requests if request.path.endswith(name)]

    def count(self, path: str) -> int:
        """Count the requests for one address, this one included."""
        with self.lock:
            self.seen[path] += 1
            return self.seen[path]


class FaultHandler(BaseHTTPRequestHandler):
    """Answers each request with the fault that its address names."""

    facts: Facts
    faults: Mapping[str, Callable[[FaultHandler], None]]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_HEAD(self) -> None:  # http.server's name
        self._serve("HEAD")

    def do_GET(self) -> None:  # http.server's name
        self._serve("GET")

    def _serve(self, method: str) -> None:
        self.facts.requests.append(
            Request(method, self.path, {name.title(): value for name, value in self.headers.items()})
        )
        self.close_connection = True
        # As a proxy it would be asked for a whole URL.
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        self.hub = len(parts) == 5 and parts[0] == "faults" and parts[2] == "resolve"
        fault, name = (parts[1], parts[4]) if self.hub else (parts[0], parts[-1])
        path = self.facts.folder / name
        if not path.is_file() or not (fault.isdigit() or fault in self.faults):
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
                self.nth = self.facts.count(self.path)
                self.faults[fault](self)
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
