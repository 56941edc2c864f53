"""Makes text safe to show: removes secrets from URLs, and control characters from others' text."""

from __future__ import annotations

import hashlib
import re

_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@|^[^/?#\s:]*:[^/?#\s]*@")
# Signed URLs have their secret in the query, some links in the fragment.
_QUERY = re.compile(r"([?#])\S*")
_LONGEST = 300


def redacted(url: str) -> str:
    """Return a URL, valid or not, without user name, password, query and fragment.

    Example:
        >>> redacted("https://me:secret@example.org/a?signature=secret")
        'https://example.org/a?...'
    """
    return _QUERY.sub(r"\1...", _USERINFO.sub("", url))


def source_key(url: str) -> str:
    """Return the SHA-256 of an address, to recognise it by where the address itself could give a secret away."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()


def printable(text: object) -> str:
    r"""Return text as one line of limited length, with terminal control characters escaped.

    Example:
        >>> printable("not\x1b[2Jfound")
        'not\\x1b[2Jfound'
    """
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return escaped if len(escaped) <= _LONGEST else escaped[:_LONGEST] + "..."
