"""The scheme ``hf://owner/repo/file@revision``: the Hugging Face Hub, its token and its client's cache."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, urlsplit

from ..addresses import parse_hf
from ..schemes import Scheme
from ..weights_file import WeightsFile
from .exchange import Answer
from .redaction import printable
from .responses import describe
from .retry import SourceError
from .sources import Job
from .tokens import authorization

_ENDPOINT = "https://huggingface.co"


class HuggingFace(Scheme):
    """Files of the Hugging Face Hub, fetched like other URLs.

    The hub's own download does not resume in another process, and has no limits on a request's time
    or speed; so only its endpoint, token and cache are used.
    """

    def check(self, source: str) -> None:
        """Refuse a source that is not ``hf://owner/repo/file@revision``."""
        parse_hf(source)

    def local(self, source: str) -> Path | None:
        """Return the file in huggingface_hub's own cache, or None."""
        repo, name, revision = parse_hf(source)
        try:
            from huggingface_hub import try_to_load_from_cache  # fails with an invalid HF_ENDPOINT

            found = try_to_load_from_cache(repo, name, revision=revision)
        except (OSError, ValueError):
            return None
        return Path(found) if isinstance(found, str) else None

    def fetch(self, source: str, job: Job) -> bool:
        """Download from ``HF_ENDPOINT``, with the user's token if that is the hub itself."""
        url = url_of(source)
        host = urlsplit(url).hostname

        def inspect(answer: Answer) -> None:
            if answer.url.hostname == host:
                check_stated(answer, job.file)

        return job.download(url, authorization(url), inspect)


def url_of(source: str) -> str:
    """Return the address of an ``hf://`` source at ``HF_ENDPOINT``.

    Raises:
        SourceError: ``HF_ENDPOINT`` is not a URL.
    """
    repo, name, revision = parse_hf(source)
    base = (os.environ.get("HF_ENDPOINT") or _ENDPOINT).rstrip("/")
    try:
        parts = urlsplit(base)
        sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound:
        raise SourceError("HF_ENDPOINT is not a URL; unset it, or write https://HOST")
    return f"{base}/{repo}/resolve/{quote(revision, safe='')}/{quote(name)}"


def check_stated(answer: Answer, file: WeightsFile) -> None:
    """Check what the hub states about the file, before any of its bytes are fetched.

    Raises:
        SourceError: The hub states another digest, or requires a token.
    """
    stated = stated_digest(answer)
    if answer.status < 400 and len(stated) == 64 and not file.accepts(stated):
        raise SourceError(f"the hub states the SHA-256 {stated} for this revision")
    if answer.status in (401, 403):
        raise SourceError(refusal(answer))


def stated_digest(answer: Answer) -> str:
    """Return the digest that a response of the hub states: 64 digits of SHA-256, 40 of git's SHA-1, or ""."""
    own = "ETag" if answer.status in (200, 206) else "X-Linked-ETag"  # a redirect's ETag is not the file's
    stated: str = answer.headers.get("X-Linked-ETag") or answer.headers.get(own) or ""
    stated = stated.removeprefix("W/").strip('"')
    return stated if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", stated) else ""


def refusal(answer: Answer) -> str:
    """Describe a response with the status 401 or 403, and what to do."""
    said = printable(answer.headers.get("X-Error-Message") or "")
    return (
        f"{describe(answer)}: the repository is private, gated or gone; if it is gated, accept its terms on "
        f"huggingface.co; then set HF_TOKEN to a token with access{f' (the hub says: {said})' if said else ''}"
    )
