"""Checks of HTTP responses, and the facts about the file in their headers."""

from __future__ import annotations

import email.utils
import time

from .exchange import Answer
from .part import Note, Part
from .retry import TRANSIENT, SourceError

_MEANING = {401: "unauthorized", 403: "forbidden", 404: "not found", 410: "gone", 429: "too many requests"}
_HTML = "sent an HTML page instead of the file (a login, quota or error page)"


def check_status(answer: Answer) -> None:
    """Check that the response is a file, or a part of one.

    Raises:
        SourceError: It is an error or a web page.
    """
    status = answer.status
    if status == 416:
        raise SourceError("HTTP 416 (the part no longer fits the file)", transient=True)
    if status not in (200, 206):
        pause = _retry_after(answer)
        asks = f", asks to wait {pause:,.0f} s" if pause else ""
        raise SourceError(f"{describe(answer)}{asks}", transient=status in TRANSIENT, pause=pause)
    if answer.headers.get("Content-Type", "").lower().startswith(("text/html", "application/xhtml")):
        raise SourceError(_HTML)


def _retry_after(answer: Answer) -> float | None:
    """Return the seconds that a server asks to wait, given as a number or a date."""
    text = answer.headers.get("Retry-After", "").strip()
    seconds = _count(text)
    if seconds is not None:
        return float(seconds)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time()) if text else None
    except (ValueError, TypeError, OverflowError):
        return None


def content_length(answer: Answer) -> int | None:
    """Return the number of bytes of the file in the response, if the server states it."""
    return None if _is_encoded(answer) else _count(answer.headers.get("Content-Length", ""))


def whole_length(answer: Answer) -> int | None:
    """Return the number of bytes of the whole file, of which the response may be a part, if the server states it."""
    if answer.status == 206:
        return _count(answer.headers.get("Content-Range", "").rpartition("/")[2])
    return content_length(answer)


def end_of(answer: Answer, start: int) -> int | None:
    """Return the number of bytes of the file up to the end of this response, if the server states it."""
    length = content_length(answer)
    return None if length is None else start + length


def marks_end(answer: Answer) -> bool:
    """True if the body itself shows where it ends, as chunks and compressed data do."""
    return _is_encoded(answer) or "Transfer-Encoding" in answer.headers


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _is_encoded(answer: Answer) -> bool:
    return (answer.headers.get("Content-Encoding") or "identity").lower() != "identity"


def validator(answer: Answer) -> str:
    """Return a strong validator of the file's version, or ``""``."""
    etag: str = answer.headers.get("ETag", "")
    if _is_encoded(answer):
        return ""
    return etag if etag and not etag.startswith("W/") else str(answer.headers.get("Last-Modified", ""))


def check_continues(answer: Answer, note: Note | None, part: Part) -> Note:
    """Check that a partial response continues exactly where the part ends.

    Raises:
        SourceError: It does not; the part is discarded, and the next attempt starts from the
            beginning.
    """
    unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    if note is not None and unit == "bytes" and span.startswith(f"{part.size}-"):
        same = validator(answer) in ("", note.validator) and not _is_encoded(answer)
        if same and (total == "*" or note.total in (None, _count(total))):
            return note
    part.discard()
    raise SourceError("the file changed between two parts", transient=True)


def check_begins(data: bytes) -> None:
    """Check that the data is not a web page with another content type.

    Raises:
        SourceError: It is one.
    """
    if data.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        raise SourceError(_HTML)


def describe(answer: Answer) -> str:
    """Return an answer's status for messages."""
    return f"HTTP {answer.status} ({_MEANING.get(answer.status, answer.reason)})"
