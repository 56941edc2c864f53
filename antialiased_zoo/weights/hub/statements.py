"""What the Hugging Face Hub states about a repository's files, and small files that are checked against it.

The hub names a file by its SHA-256 if it is stored in LFS or Xet, and by the SHA-1 of its blob if it
is stored in git itself, as small texts are.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ...errors import DigestError, FetchError
from .connection import Network
from .exchange import Answer, request
from .huggingface import refusal, stated_digest, url_of
from .redaction import printable, redacted
from .responses import check_status, content_length, describe
from .retry import DEFAULT_RETRY, Retry, SourceError
from .tokens import authorization

_ABSENT = (404, 410)


@dataclass
class Statement:
    """What the hub states about one file.

    Attributes:
        digest: Its SHA-256 (64 hex digits), or its blob's SHA-1 (40).
        commit: The commit that the revision stands for, if stated.
        size: Size in bytes, if stated.
    """

    digest: str = ""
    commit: str = ""
    size: int | None = None


class _StatedError(Exception):
    """The hub has stated all: no need to follow its redirect to where the bytes are."""


class Hub:
    """The hub that ``HF_ENDPOINT`` names, with the loader's own limits of time.

    Args:
        retry: Timeouts and retries.
    """

    def __init__(self, retry: Retry = DEFAULT_RETRY) -> None:
        self.retry, self.network = retry, Network(retry.connect)

    def state(self, source: str) -> Statement | None:
        """Return what the hub states about the file of an ``hf://`` source; None if there is no such file.

        Raises:
            FetchError: The hub states no digest.
            SourceError: The hub cannot be reached, or refuses.
        """
        found = self._ask(source, "HEAD")
        return None if found is None else found[0]

    def read(self, source: str, most: int) -> bytes | None:
        """Return a small file, verified; None if there is no such file.

        Raises:
            FetchError: The hub states no digest, or sends another file.
            SourceError: The hub cannot be reached, or refuses.
        """
        found = self._ask(source, "GET", most)
        if found is None:
            return None
        statement, data = found
        if blob_digest(data, statement.digest) != statement.digest:
            raise DigestError(f"{source} is not the file that the hub states ({statement.digest}): try again")
        return data

    def _ask(self, source: str, method: str, most: int = 0) -> tuple[Statement, bytes] | None:
        url, statement = url_of(source), Statement()

        def inspect(answer: Answer) -> None:
            _note(statement, answer, url)
            if method == "HEAD" and statement.digest and answer.status < 400:
                raise _StatedError

        def attempt() -> tuple[Statement, bytes] | None:
            try:
                with request(url, self.retry, self.network, authorization(url), method=method, inspect=inspect) as said:
                    if said.status in _ABSENT:
                        return None
                    check_status(said)
                    if not statement.digest:
                        raise FetchError(_unverifiable(source, said))
                    return statement, _body(said, self.retry, most)
            except _StatedError:
                return statement, b""

        return self.retry.persist(redacted(url), attempt)


def _note(statement: Statement, answer: Answer, url: str) -> None:
    """Take from a response what it states, if it is the hub's own: another host's ETag is no digest."""
    if answer.url.hostname != urlsplit(url).hostname:
        return
    if answer.status in (401, 403):
        raise SourceError(refusal(answer))
    if answer.status < 400:
        statement.digest = stated_digest(answer) or statement.digest
        commit = answer.headers.get("X-Repo-Commit", "")
        statement.commit = commit if re.fullmatch("[0-9a-f]{40}", commit) else statement.commit
        size = answer.headers.get("X-Linked-Size", "")
        statement.size = int(size) if re.fullmatch("[1-9][0-9]{0,17}", size) else statement.size


def _unverifiable(source: str, answer: Answer) -> str:
    said = printable(answer.headers.get("ETag") or "none")
    return (
        f"cannot verify {source}: {answer.url.hostname} states no digest of it ({describe(answer)}, ETag {said}). Use "
        "a hub that does (unset HF_ENDPOINT), or download the file yourself, check it, and give its path"
    )


def _body(answer: Answer, retry: Retry, most: int) -> bytes:
    data, length = b"", content_length(answer)
    for piece in answer.chunks(retry):
        data += piece
        if len(data) > most:
            raise SourceError(f"sent more than {most:,} bytes")
    if length is not None and len(data) < length:
        raise SourceError(f"ended early, after {len(data):,} of {length:,} bytes", transient=True)
    return data


def blob_digest(data: bytes, like: str) -> str:
    """Return the digest by which the hub names these bytes, of the same kind as ``like``."""
    if len(like) == 64:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
