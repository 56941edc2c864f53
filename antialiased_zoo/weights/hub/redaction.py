"""What may be shown of text that holds secrets or was written by somebody else."""

from __future__ import annotations

import re

_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@|^[^/?#\s:]*:[^/?#\s]*@")
# Signed URLs carry their secret in the query, some links in the fragment.
_QUERY = re.compile(r"([?#])\S*")
_LONGEST = 300


def redacted(url: str) -> str:
    """Return a URL, sound or not, without user name, password, query and fragment.

    Example:
        >>> redacted("https://me:secret@example.org/a?signature=secret")
        'https://example.org/a?...'
    """
    return _QUERY.sub(r"\1...", _USERINFO.sub("", url))


def printable(text: object) -> str:
    r"""Return one line of somebody else's text with nothing in it that a terminal obeys.

    Example:
        >>> printable("not\x1b[2Jfound")
        'not\\x1b[2Jfound'
    """
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return escaped if len(escaped) <= _LONGEST else escaped[:_LONGEST] + "..."
