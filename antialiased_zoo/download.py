"""One URL -> the bytes of one part: retries what may heal, resumes, and gives up at once on what will not."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from .cache import disk_errors
from .errors import CacheError
from .part import Note, Part

if TYPE_CHECKING:
    import requests
    from tqdm import tqdm

_log = logging.getLogger(__name__)
_CHUNK = 1024 * 1024
# Statuses that say "not now" rather than "no".
HEALING = (408, 425, 429, 500, 502, 503, 504)
_MEANING = {401: "unauthorized", 403: "forbidden", 404: "not found", 410: "gone", 429: "too many requests"}
# Larger than any weights this package knows of; a server that never stops sending must not fill the disk.
MAX_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class Patience:
    """How long to wait for what. All in seconds, but for the counts.

    Attributes:
        attempts: tries in a row without progress before a source is given up.
        backoff: first pause between them; each next one is twice as long.
        longest_pause: a server that asks (``Retry-After``) for more than this is given up at once.
        connect: for a connection to be made.
        read: for the next byte to arrive.
        window: over which the speed is looked at.
        slowest: bytes per second below which a source is given up.
        lock: for another process that fetches the same file.
    """

    attempts: int = 4
    backoff: float = 0.5
    longest_pause: float = 60.0
    connect: float = 10.0
    read: float = 20.0
    window: float = 30.0
    slowest: float = 1024.0
    lock: float = 1800.0

    def pause(self, asked: float | None, failures: int) -> float:
        """Return how long to wait after so many failures in a row, given what the server asked for."""
        if asked is not None and asked > self.longest_pause:
            raise SourceError(f"the server asks to wait {asked:.0f} s")
        return min(max(self.backoff * 2.0 ** (failures - 1), asked or 0.0), self.longest_pause)


class SourceError(Exception):
    """One source did not give the file.

    Attributes:
        heals: whether trying again may help.
        pause: seconds that the server asked to wait.
    """

    def __init__(self, reason: str, *, heals: bool = False, pause: float | None = None) -> None:
        super().__init__(reason)
        self.heals = heals
        self.pause = pause


def download(
    url: str,
    part: Part,
    patience: Patience,
    bar: tqdm[Any],
    *,
    headers: Mapping[str, str],
    size: int | None = None,
) -> bool:
    """Fill ``part`` with what ``url`` serves, going on where an earlier attempt stopped.

    Args:
        url: an ``http(s)`` address.
        part: where the bytes go; complete when this returns, but not verified.
        patience: how long to wait for what.
        bar: told of the bytes.
        headers: to send; ``Authorization`` goes to this URL's host only.
        size: the file's size, where the manifest knows it.

    Returns:
        Whether the bytes come from more than one response: then a wrong digest may be a matter of bad luck.

    Raises:
        SourceError: the source is given up; says why.
        CacheError: the disk refuses.
    """
    failures, responses, joined = 0, 0, part.note(url) is not None
    with _session(headers) as session:
        while True:
            before = part.size
            try:
                responses += 1
                _attempt(session, url, part, patience, bar, size)
                return joined or responses > 1
            except SourceError as error:
                failures = 1 if part.size - before >= _CHUNK else failures + 1
                if not error.heals or failures >= patience.attempts:
                    raise
                pause = patience.pause(error.pause, failures)
                _log.info("%s: %s; trying again in %.1f s", url, error, pause)
            time.sleep(pause)


def _session(headers: Mapping[str, str]) -> requests.Session:
    import requests

    class Session(requests.Session):
        """Follows redirects, but not from https to http; requests drops ``Authorization`` on another host."""

        def get_redirect_target(self, resp: requests.Response) -> str | None:
            target = super().get_redirect_target(resp)
            if target and target.startswith("http://") and resp.url.startswith("https://"):
                raise SourceError("redirects from https to http, which is refused")
            return target

    session = Session()
    session.max_redirects = 10
    # gzip would hide the length and make resuming impossible.
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "antialiased-zoo", **headers})
    # requests itself reads REQUESTS_CA_BUNDLE, which wins, but not the name that everything else reads.
    session.verify = os.environ.get("SSL_CERT_FILE") or True
    return session


def _attempt(
    session: requests.Session, url: str, part: Part, patience: Patience, bar: tqdm[Any], size: int | None
) -> None:
    note = part.note(url)
    start = part.size if note else 0
    if note and note.total == start:
        return
    ask = {"Range": f"bytes={start}-", "If-Range": note.validator} if note else {}
    timeout = (patience.connect, patience.read)
    with _network_errors(), session.get(url, stream=True, timeout=timeout, headers=ask) as response:
        _check_status(response, part)
        if response.status_code == 206:
            total = _check_continues(response, note, start, part)
        else:
            start, total = 0, _length(response)
        _check_total(total, size)
        if start == 0:
            fresh = Note(url, _validator(response), total)
        bar.total = total
        bar.reset(total) if start == 0 else bar.update(start - bar.n)
        with part.reopen() if start else part.begin(fresh) as file:
            got = start + _copy(response, _Sink(file, part), patience, bar, (size or MAX_BYTES) - start)
    if total is not None and got < total:
        raise SourceError(f"ended after {got:,} of {total:,} bytes", heals=True)


def _check_status(response: requests.Response, part: Part) -> None:
    status = response.status_code
    if status == 416:
        part.discard()
        raise SourceError("HTTP 416 (the part does not fit the file any more)", heals=True)
    if status not in (200, 206):
        meaning = _MEANING.get(status, response.reason or "")
        pause = _retry_after(response)
        raise SourceError(f"HTTP {status} ({meaning})", heals=status in HEALING, pause=pause)
    if response.headers.get("Content-Type", "").lower().startswith(("text/html", "application/xhtml")):
        raise SourceError("sent an HTML page instead of the file (a login, quota or error page)")


def _retry_after(response: requests.Response) -> float | None:
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    text = response.headers.get("Retry-After")
    try:
        return float(Retry().parse_retry_after(text)) if text else None
    except (InvalidHeader, ValueError, OverflowError):
        return None


def _length(response: requests.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity").lower() != "identity"
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 and not encoded else None


def _validator(response: requests.Response) -> str:
    """Return what tells one version of the file from another, byte for byte, or ``""``."""
    etag: str = response.headers.get("ETag", "")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        return ""
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def _check_continues(response: requests.Response, note: Note | None, start: int, part: Part) -> int | None:
    """Make sure that a partial response goes on exactly where the part ends; return the whole file's size."""
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    span, _, text = rest.partition("/")
    total = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
    fits = note is not None and unit == "bytes" and span.startswith(f"{start}-")
    if note and (total != note.total or _validator(response) not in ("", note.validator)):
        fits = False
    if not fits:
        part.discard()
        raise SourceError("the file changed between two parts", heals=True)
    return total


def _check_total(total: int | None, size: int | None) -> None:
    if size is not None and total is not None and total != size:
        raise SourceError(f"offers {total:,} bytes, the file has {size:,}")
    if total is not None and total > MAX_BYTES:
        raise SourceError(f"offers {total:,} bytes, more than any weights file ({MAX_BYTES:,})")


class _Sink:
    """A part's open file, whose refusals are told from the network's."""

    def __init__(self, file: IO[bytes], part: Part) -> None:
        self._file, self._part = file, part

    def write(self, data: bytes) -> None:
        try:
            with disk_errors(self._part.path.parent):
                view = memoryview(data)
                while view:  # an unbuffered file may take less than it is given
                    view = view[self._file.write(view) :]
        except CacheError:
            self._part.discard()  # a full disk is not helped by half a file on it
            raise


def _copy(response: requests.Response, sink: _Sink, patience: Patience, bar: tqdm[Any], limit: int) -> int:
    got, since, seen = 0, time.monotonic(), 0
    # read1 returns what has come, so that a trickle is seen as one; read would wait for a full chunk.
    while data := response.raw.read1(_CHUNK, decode_content=True):
        if got == 0 and data.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
            raise SourceError("sent an HTML page instead of the file (a login, quota or error page)")
        got += len(data)
        if got > limit:
            raise SourceError(f"sent more than the {limit:,} bytes that were left to come")
        sink.write(data)
        bar.update(len(data))
        if time.monotonic() - since >= patience.window:
            if got - seen < patience.slowest * patience.window:
                raise SourceError(f"slower than {patience.slowest:,.0f} bytes a second")
            since, seen = time.monotonic(), got
    return got


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    """Turn everything that requests and urllib3 raise into a reason, and whether it may heal."""
    import requests
    import urllib3

    try:
        yield
    except requests.exceptions.TooManyRedirects:
        raise SourceError("redirects in a loop") from None
    except (requests.exceptions.SSLError, urllib3.exceptions.SSLError) as error:
        raise SourceError(f"TLS failed: {_innermost(error)}") from None
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
        what = "no connection" if isinstance(error, requests.exceptions.ConnectTimeout) else "no data"
        raise SourceError(f"{what} in time", heals=True) from None
    except requests.exceptions.ProxyError as error:
        raise SourceError(f"the proxy failed: {_innermost(error)}") from None
    except (requests.exceptions.ConnectionError, urllib3.exceptions.HTTPError) as error:
        reason = _innermost(error)
        # A name that does not resolve or cannot be decoded will not do so in a second's time either.
        final = isinstance(reason, (urllib3.exceptions.NameResolutionError, urllib3.exceptions.DecodeError))
        raise SourceError(str(reason), heals=not final) from None
    except requests.exceptions.RequestException as error:
        raise SourceError(f"{type(error).__name__}: {error}") from None


def _innermost(error: BaseException) -> BaseException:
    """Return the cause that says something, from under the wrappers of requests and urllib3."""
    from urllib3.exceptions import NameResolutionError

    while not isinstance(error, NameResolutionError):
        inner = getattr(error, "reason", None)
        inner = (
            inner
            if isinstance(inner, BaseException)
            else next((arg for arg in reversed(error.args) if isinstance(arg, BaseException)), None)
        )
        if inner is None:
            break
        error = inner
    return error
