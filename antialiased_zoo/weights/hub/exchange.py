"""HTTP requests that follow redirects; the bodies of redirects and errors are not read."""

from __future__ import annotations

import contextlib
import http.client
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from ...errors import FetchError
from ..addresses import is_loopback
from .clock import Clock
from .connection import Network, Stream, basic, head, place_of, proxy_for, proxy_headers
from .redaction import printable
from .retry import Retry, SourceError

_CHUNK = 1024 * 1024
# Interim responses; http.client skips 100 itself.
_INTERIM = (102, 103)
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 10
_SAFE = "/%:@!$&'()*+,;=~-._?"
_AGENT = {
    "User-Agent": "antialiased-zoo",
    "Accept": "*/*",
    # gzip would hide the length and make resuming impossible.
    "Accept-Encoding": "identity",
    "Connection": "close",
}


@dataclass(frozen=True)
class Answer:
    """A server's response.

    Attributes:
        url: The URL that answered, after redirects.
        status: HTTP status code.
        reason: The server's reason phrase.
        headers: The headers by name, case-insensitive.
    """

    url: SplitResult
    status: int
    reason: str
    headers: Message
    _response: http.client.HTTPResponse
    _stream: Stream

    def close(self) -> None:
        """Close the connection, without reading the rest."""
        self._response.close()
        self._stream.close()

    def chunks(self, retry: Retry) -> Iterator[bytes]:
        """Yield the body's bytes as they arrive, decompressed if the server has compressed them.

        Raises:
            SourceError: No bytes arrived in time, or fewer than ``retry.slowest`` per second.
        """
        encoding = (self.headers.get("Content-Encoding") or "identity").lower()
        if encoding not in ("identity", "gzip", "x-gzip", "deflate"):
            raise SourceError(f"sent the file in the Content-Encoding {printable(encoding)}, which was not asked for")
        data = self._paced(retry)
        return data if encoding == "identity" else _unzipped(data)

    def _paced(self, retry: Retry) -> Iterator[bytes]:
        """Yield raw data; only file data extends the time limits, nothing else that a server sends."""
        slow = SourceError(f"slower than {retry.slowest:,.0f} bytes a second")
        got, enough, left = 0, 0.0, self._response.length
        clock = self._stream.clock
        clock.lift("answer")
        while left is None or left > 0:
            clock.limit("data", retry.read, SourceError("no data in time", transient=True))
            if got >= enough:
                clock.limit("speed", retry.window, slow)
                enough = got + retry.slowest * retry.window
            data = self._response.read1(_CHUNK if left is None else min(left, _CHUNK))
            if not data:
                return
            got += len(data)
            left = None if left is None else left - len(data)
            yield data


def _unzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    unzip, begun = zlib.decompressobj(47), False  # detects gzip and zlib
    for data in chunks:
        while data:
            begun = True
            yield unzip.decompress(data, _CHUNK)
            data = unzip.unconsumed_tail
            if unzip.eof:
                data, unzip, begun = unzip.unused_data, zlib.decompressobj(47), False
    if begun:  # in the middle of the compressed data, which states its own end
        raise SourceError("ended early", transient=True)


@contextlib.contextmanager
def request(
    url: str,
    retry: Retry,
    network: Network,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    inspect: Callable[[Answer], None] = lambda answer: None,
) -> Iterator[Answer]:
    """Request a URL and follow redirects, but never from https to http, and never with a secret to another host.

    Args:
        url: An http(s) URL; its user name and password are sent only to its own host.
        retry: Timeouts.
        network: What this fetch has learnt about hosts.
        headers: Headers to send; ``Authorization`` is sent only to the URL's own host, port and
            scheme, and over http only to this machine.
        method: ``GET`` or ``HEAD``.
        inspect: Called with every response, including redirects; may raise.

    Raises:
        SourceError: There is no response; the message says why.
    """
    clock = Clock()
    clock.limit("answer", retry.read, SourceError("no answer in time", transient=True))
    with network_errors():
        place = urlsplit(url)
        sent = dict(headers or {})
        if place.username or place.password:
            sent["Authorization"] = basic(place)
        if place.scheme == "http" and not is_loopback(place.hostname or ""):
            sent.pop("Authorization", None)  # anybody on the way could read it, a proxy first
        for _ in range(_MOST_REDIRECTS + 1):
            answer = _ask(place, clock, network, sent, method)
            with contextlib.closing(answer):
                inspect(answer)
                location = answer.headers.get("Location")
                if answer.status not in _REDIRECTS or not location:
                    yield answer
                    return
            before, place = place, target(place, location)
            if (before.scheme, before.hostname, before.port) != (place.scheme, place.hostname, place.port):
                sent.pop("Authorization", None)
        raise SourceError("redirects in a loop")


def _ask(place: SplitResult, clock: Clock, network: Network, headers: Mapping[str, str], method: str) -> Answer:
    host = place.netloc.rpartition("@")[2].encode("idna").decode()
    target = quote(place.path or "/", safe=_SAFE) + (f"?{quote(place.query, safe=_SAFE)}" if place.query else "")
    headers = {"Host": host, **_AGENT, **headers}
    proxy = proxy_for(place.scheme, place_of(place)) if place.scheme == "http" else None
    if proxy:  # for http only: an https request goes through a tunnel
        target, headers = f"http://{host}{target}", headers | proxy_headers(proxy)
    stream = network.open(place, clock)
    try:
        stream.sendall(head(method, target, headers))
        response = http.client.HTTPResponse(stream, method=method)  # type: ignore[arg-type]  # it needs makefile alone
        response.begin()
        while response.status in _INTERIM:
            before, response = response, http.client.HTTPResponse(stream, method=method)  # type: ignore[arg-type]
            # The reader holds the bytes that follow; the old response would close it when deleted.
            response.fp, before.fp = before.fp, None  # type: ignore[assignment]
            response.begin()
    except BaseException:
        stream.close()
        raise
    return Answer(place, response.status, printable(response.reason), response.headers, response, stream)


def target(place: SplitResult, location: str) -> SplitResult:
    """Return the target of a redirect.

    Raises:
        SourceError: It must not be followed.
    """
    # http.client decodes all headers as Latin-1.
    there = urlsplit(urljoin(place.geturl(), quote(location.encode("latin-1"), safe=_SAFE + "#[]")))
    if there.scheme == "http" and place.scheme == "https":
        raise SourceError("redirects from https to http, which is refused")
    if there.scheme == "http" and there.hostname != place.hostname and not is_loopback(there.hostname or ""):
        raise SourceError("redirects to http on another machine, which is refused")
    return there._replace(netloc=there.netloc.rpartition("@")[2])


@contextlib.contextmanager
def network_errors() -> Iterator[None]:
    """Turn all errors of sockets and of the HTTP parser into a `SourceError`, transient or not."""
    try:
        yield
    except FetchError:  # raised inside the block, by the disk
        raise
    except http.client.IncompleteRead:
        raise SourceError("ended early", transient=True) from None
    except OSError as error:  # including SSLError and RemoteDisconnected
        raise SourceError(error.strerror or printable(error) or type(error).__name__, transient=True) from None
    except http.client.HTTPException as error:
        raise SourceError(f"sent invalid HTTP: {printable(repr(error))}") from None
    except zlib.error:
        raise SourceError("sent data that does not match its Content-Encoding") from None
    except ValueError as error:  # including UnicodeError: an invalid address
        raise SourceError(f"an address cannot be understood: {printable(error)}") from None
