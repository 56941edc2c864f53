"""``hf://`` sources: huggingface_hub finds the file and says which headers it needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ..weights_file import WeightsFile, parse_hf
from .responses import HEALING
from .retry import SourceError

# The only hosts that get the user's token. A mirror named by HF_ENDPOINT is not among them.
TOKEN_HOSTS = ("huggingface.co", "hf.co")


@dataclass(frozen=True)
class Resolved:
    """Where a file of the Hugging Face Hub can be had.

    Attributes:
        url: to get it from.
        headers: to send there.
        local: the file itself, where the hub's own cache already has it.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    local: Path | None = None


def resolve(source: str, file: WeightsFile, timeout: float) -> Resolved:
    """Ask the hub for a file's address; its bytes are then fetched like any other URL's.

    The hub's own download keeps no part for the next process and has no lower limit of speed, so only its
    lookup is used: endpoint, revision, token, and the cache that other programs have filled.

    Args:
        source: ``hf://owner/repo/file@revision``.
        file: what is wanted; if the hub states another digest, the download is spared.
        timeout: in seconds.

    Raises:
        SourceError: the hub does not have it, or cannot be asked.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    repo, name, revision = parse_hf(source)
    local = try_to_load_from_cache(repo, name, revision=revision)
    url = hf_hub_url(repo, name, revision=revision, endpoint=os.environ.get("HF_ENDPOINT") or None)
    if isinstance(local, str):
        return Resolved(url, {}, Path(local))
    token = _token(url)
    try:
        facts = get_hf_file_metadata(url, token=token or False, timeout=timeout)
    except Exception as error:  # whatever the client's HTTP library of the day raises
        raise _reason(error) from None
    if facts.etag and len(facts.etag) == 64 and not file.accepts(facts.etag):
        raise SourceError(f"the hub states the SHA-256 {facts.etag} for this revision")
    return Resolved(url, {"Authorization": f"Bearer {token}"} if token else {})


def _token(url: str) -> str | None:
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN or urlsplit(url).hostname not in TOKEN_HOSTS:
        return None
    return get_token()


def _reason(error: Exception) -> SourceError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    heals = status in HEALING or (status is None and isinstance(error, OSError))
    text = f"HTTP {status}" if status else f"{type(error).__name__}: {error}"
    return SourceError(text.splitlines()[0][:300], heals=heals)
