"""Opens connections: name lookup, TCP, proxy and TLS, all within one time limit.

This uses the standard library's sockets and HTTP parser. The client that huggingface_hub depends on
limits the time of each read but not of a request, and is a different package in each major version
(httpx, httpx2).
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import os
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from ..addresses import is_loopback
from .clock import Clock
from .redaction import printable, redacted
from .retry import TRANSIENT, SourceError

_PORTS = {"http": 80, "https": 443}


class Stream:
    """A socket on which each wait ends at the clock's next limit."""

    def __init__(self, connected: socket.socket, clock: Clock) -> None:
        self.socket, self.clock = connected, clock

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a reader, for ``http.client.HTTPResponse``."""
        return io.BufferedReader(_Reader(self))

    def sendall(self, data: bytes) -> None:
        """Send all of the data."""
        self.socket.settimeout(self.clock.left())
        self.socket.sendall(data)

    def secure(self, host: str) -> None:
        """Start TLS on the connection.

        Raises:
            SourceError: The certificate is not trusted, or the other side does not speak TLS.
        """
        try:
            self.socket.settimeout(self.clock.left())
            self.socket = ssl_context().wrap_socket(self.socket, server_hostname=host)
        except TimeoutError:
            self.clock.left()
            raise SourceError("no connection in time") from None
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise SourceError(f"TLS failed: {printable(error)}{_advice(error)}") from None

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


class _Reader(io.RawIOBase):
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        stream = self._stream
        while True:
            stream.socket.settimeout(stream.clock.left())
            with contextlib.suppress(TimeoutError):
                return stream.socket.recv_into(buffer)


@dataclass
class Network:
    """What one fetch has learnt about hosts.

    Attributes:
        connect: Timeout of the next connection, in seconds.
        failed: Why connecting to a host and port failed; these are not tried again.
    """

    connect: float
    failed: dict[tuple[str, int], str] = field(default_factory=dict)

    def open(self, url: SplitResult, clock: Clock) -> Stream:
        """Connect to an address, through a proxy if the environment names one.

        Raises:
            SourceError: Connecting failed; the message says why.
            OSError: The connection was refused or broken, which may be transient.
        """
        place, begun = place_of(url), time.monotonic()
        if place in self.failed:
            raise SourceError(self.failed[place])
        clock.limit("connect", self.connect, SourceError("no connection in time"))
        try:
            stream = _open(url.scheme, place, clock)
        except SourceError as error:
            if error.transient:
                raise
            self.failed[place] = str(error)
            if time.monotonic() - begun >= self.connect:
                self.connect /= 2  # so that all silent hosts together take less than twice the first one's time
            raise
        clock.lift("connect")
        return stream


def _open(scheme: str, place: tuple[str, int], clock: Clock) -> Stream:
    proxy = proxy_for(scheme, place)
    stream = Stream(_to_proxy(place_of(proxy), clock) if proxy else _to(place, clock), clock)
    try:
        if scheme == "https":
            if proxy:
                _tunnel(stream, place, proxy_headers(proxy))
            stream.secure(place[0])
    except BaseException:
        stream.close()
        raise
    return stream


def _to(place: tuple[str, int], clock: Clock) -> socket.socket:
    return _tcp(_resolve(*place, clock), clock)


def _to_proxy(place: tuple[str, int], clock: Clock) -> socket.socket:
    """Connect to a proxy; an error names it, since the address that was asked for is another's."""
    try:
        return _to(place, clock)
    except (OSError, SourceError) as error:
        reason, transient = getattr(error, "strerror", None) or error, getattr(error, "transient", True)
        raise SourceError(f"the proxy {name_of(place)} failed: {reason}", transient=transient) from None


def name_of(place: tuple[str, int]) -> str:
    """Return a host and port as in an address."""
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def place_of(url: SplitResult) -> tuple[str, int]:
    """Return the host and port of an address.

    Raises:
        SourceError: The address is invalid.
    """
    try:
        host, port = (url.hostname or "").encode("idna").decode(), url.port
    except ValueError as error:
        raise SourceError(f"an address cannot be understood: {printable(error)}") from None
    if not host or url.scheme not in _PORTS:
        raise SourceError(f"the address {printable(redacted(url.geturl()))} is not http(s)://HOST/...")
    return host, port or _PORTS[url.scheme]


def proxy_for(scheme: str, place: tuple[str, int]) -> SplitResult | None:
    """Return the proxy that the environment names for a host and port, or None.

    Raises:
        SourceError: The proxy cannot be used.
    """
    proxies = getproxies()
    address = proxies.get(scheme) or proxies.get("all")
    # A proxy would look for a server of this machine on its own.
    if not address or is_loopback(place[0]) or proxy_bypass(f"{place[0]}:{place[1]}"):
        return None
    try:
        proxy = urlsplit(address if "://" in address else f"http://{address}")
        if proxy.scheme != "http":
            raise ValueError("only http:// proxies are supported (they carry https too)")
        place_of(proxy)
    except (ValueError, SourceError) as error:
        raise SourceError(f"the proxy {printable(redacted(address))} cannot be used: {printable(error)}") from None
    return proxy


def basic(url: SplitResult) -> str:
    """Return the value of ``Authorization`` for a URL's user name and password."""
    pair = f"{unquote(url.username or '')}:{unquote(url.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def proxy_headers(proxy: SplitResult) -> dict[str, str]:
    """Return the headers for a proxy with a user name."""
    return {"Proxy-Authorization": basic(proxy)} if proxy.username or proxy.password else {}


def _resolve(host: str, port: int, clock: Clock) -> list[tuple[Any, ...]]:
    """Look up a name, in a thread, since the system's lookup has no time limit and ignores Ctrl-C."""
    found: list[tuple[Any, ...]] = []
    failed: list[OSError] = []

    def look_up() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(clock.left())
    if failed:
        # Not transient: a name that does not resolve will not resolve a second later either.
        raise SourceError(f"Failed to resolve {host!r}: {failed[0].strerror or failed[0]}")
    if not found:
        raise SourceError(f"Failed to resolve {host!r} in time")
    return found


def _tcp(addresses: list[tuple[Any, ...]], clock: Clock) -> socket.socket:
    error = OSError("no address")
    for left, (family, kind, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        connected = socket.socket(family, kind, protocol)
        try:
            connected.settimeout(clock.left() / left)
            connected.connect(address)
        except OSError as refused:
            connected.close()
            error = refused
        except BaseException:
            connected.close()
            raise
        else:
            return connected
    if isinstance(error, TimeoutError):
        raise SourceError("no connection in time")
    raise error


def _tunnel(stream: Stream, place: tuple[str, int], headers: dict[str, str]) -> None:
    name = name_of(place)
    stream.sendall(head("CONNECT", name, {"Host": name, **headers}))
    answer = http.client.HTTPResponse(stream, method="CONNECT")  # type: ignore[arg-type]  # it needs makefile alone
    answer.begin()
    if answer.status != 200:
        reason = f"the proxy failed: HTTP {answer.status} ({printable(answer.reason)})"
        raise SourceError(reason, transient=answer.status in TRANSIENT)


def head(method: str, target: str, headers: dict[str, str]) -> bytes:
    """Return a request's head.

    Raises:
        SourceError: A header contains characters that cannot be sent.
    """
    for name, value in headers.items():
        if not value.isascii() or not value.isprintable():
            raise SourceError(f"the header {name} contains characters that cannot be sent")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("ascii")


# OpenSSL's errors of a certificate whose issuer is not among those to trust.
_UNKNOWN_ISSUER = (2, 18, 19, 20, 21)


def _advice(error: Exception) -> str:
    """Return what to do if this machine does not trust the certificate's issuer, such as a firewall; else ""."""
    if getattr(error, "verify_code", None) not in _UNKNOWN_ISSUER:
        return ""
    name = "REQUESTS_CA_BUNDLE" if os.environ.get("REQUESTS_CA_BUNDLE") else "SSL_CERT_FILE"
    path = os.environ.get(name)
    if path and not os.path.exists(path):
        return f"; {name} names {printable(path)}, which is missing"
    return f"; set {name} to a file with the issuer's certificate"


def ssl_context() -> ssl.SSLContext:
    """Return the TLS context with the trusted certificates.

    ``REQUESTS_CA_BUNDLE`` takes precedence; then ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, which
    OpenSSL itself reads; then the system's certificates, and certifi's if it is installed.

    Raises:
        SourceError: ``REQUESTS_CA_BUNDLE`` cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
    if bundle:
        try:
            folder = os.path.isdir(bundle)
            context.load_verify_locations(None if folder else bundle, bundle if folder else None)
        except (OSError, ValueError) as error:
            raise SourceError(f"REQUESTS_CA_BUNDLE names {bundle}, which cannot be used: {error}") from None
        return context
    context.load_default_certs()
    if not (os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")):
        with contextlib.suppress(ImportError, OSError):
            import certifi

            context.load_verify_locations(certifi.where())
    return context
