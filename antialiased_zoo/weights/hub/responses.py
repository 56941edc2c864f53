"""What one HTTP response, or the lack of one, says about the file."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .part import Note, Part
from .retry import SourceError

if TYPE_CHECKING:
    import requests

# Statuses that say "not now" rather than "no".
HEALING = (408, 425, 429, 500, 502, 503, 504)
_MEANING = {401: "unauthorized", 403: "forbidden", 404: "not found", 410: "gone", 429: "too many requests"}
_HTML = "sent an HTML page instead of the file (a login, quota or error page)"


def check_status(response: requests.Response, part: Part) -> None:
    """Go on if there is a file to come.

    Raises:
        SourceError: there is not, or it calls itself a web page.
    """
    status = response.status_code
    if status == 416:
        part.discard()
        raise SourceError("HTTP 416 (the part does not fit the file any more)", heals=True)
    if status not in (200, 206):
        meaning = _MEANING.get(status, response.reason or "")
        pause = _retry_after(response)
        asks = f", asks to wait {pause:,.0f} s" if pause else ""
        raise SourceError(f"HTTP {status} ({meaning}{asks})", heals=status in HEALING, pause=pause)
    if response.headers.get("Content-Type", "").lower().startswith(("text/html", "application/xhtml")):
        raise SourceError(_HTML)


def _retry_after(response: requests.Response) -> float | None:
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    text = response.headers.get("Retry-After")
    try:
        return float(Retry().parse_retry_after(text)) if text else None
    except (InvalidHeader, ValueError, OverflowError):
        return None


def content_length(response: requests.Response) -> int | None:
    """Return how many bytes of the file are to come, if the server says so."""
    return None if _is_encoded(response) else _count(response.headers.get("Content-Length", ""))


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _is_encoded(response: requests.Response) -> bool:
    return response.headers.get("Content-Encoding", "identity").lower() != "identity"


def validator(response: requests.Response) -> str:
    """Return what tells one version of the file from another, byte for byte, or ``""``."""
    etag: str = response.headers.get("ETag", "")
    if _is_encoded(response):
        return ""
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def check_continues(response: requests.Response, note: Note | None, part: Part) -> Note:
    """Make sure that a partial response goes on exactly where the part ends.

    Raises:
        SourceError: it does not; the part is gone, and the next attempt begins anew.
    """
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    if note is not None and unit == "bytes" and span.startswith(f"{part.size}-"):
        same = validator(response) in ("", note.validator) and not _is_encoded(response)
        if same and note.total in (None, _count(total)):
            return note
    part.discard()
    raise SourceError("the file changed between two parts", heals=True)


def check_begins(data: bytes) -> None:
    """Recognise a web page that calls itself something else.

    Raises:
        SourceError: it is one.
    """
    if data.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        raise SourceError(_HTML)


@contextlib.contextmanager
def network_errors() -> Iterator[None]:
    """Turn everything that requests and urllib3 raise into a reason, and whether it may heal."""
    import requests
    import urllib3

    try:
        yield
    except requests.exceptions.TooManyRedirects:
        raise SourceError("redirects in a loop") from None
    except (requests.exceptions.SSLError, urllib3.exceptions.SSLError) as error:
        raise SourceError(f"TLS failed: {_innermost(error)}") from None
    except urllib3.exceptions.DecodeError:
        raise SourceError("is not what its Content-Encoding says") from None
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
        what = "no connection" if isinstance(error, requests.exceptions.ConnectTimeout) else "no data"
        raise SourceError(f"{what} in time", heals=True) from None
    except requests.exceptions.ProxyError as error:
        raise SourceError(f"the proxy failed: {_innermost(error)}") from None
    except (requests.exceptions.ConnectionError, urllib3.exceptions.HTTPError) as error:
        reason = _innermost(error)
        if isinstance(reason, http.client.IncompleteRead):
            raise SourceError("ended early", heals=True) from None
        # A name that does not resolve will not do so in a second's time either.
        final = isinstance(reason, urllib3.exceptions.NameResolutionError)
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
