"""A network's files in a repository of the Hugging Face Hub: looked up, verified, and remembered for use offline."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import FetchError, OfflineError
from . import hub
from .atomic_files import replacing
from .hub import cache
from .regular import read_small
from .weights_file import WeightsFile

_log = logging.getLogger(__name__)
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_MOST_CONFIG = 1 << 20
_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Snapshot:
    """A network's files at one commit.

    Attributes:
        weights: The weights' file, with its SHA-256.
        config: The verified text of ``config.json``; None if there is none.
        commit: The commit; a branch or tag if the hub does not state it.
    """

    weights: WeightsFile
    config: str | None
    commit: str

    @property
    def path(self) -> Path:
        """The verified weights in the cache, downloaded if they are not there."""
        return hub.fetch(self.weights)


def find(name: str, revision: str) -> Snapshot:
    """Look up a repository's files, online or, if the hub cannot be reached or refuses, as they were found before.

    A refusal is often not the hub's own: a firewall answers 403 in its place, and a token expires.

    Args:
        name: ``owner/name``.
        revision: A branch, tag or commit.

    Raises:
        OfflineError: The network is forbidden, and they were never found before.
        FetchError: The hub has no such files, states no digest of them, cannot be reached, or refuses.
    """
    try:
        record = _record_path(name, revision)
    except hub.SourceError as error:  # HF_ENDPOINT is invalid
        raise FetchError(f"cannot get {name} at {revision}: {error}") from None
    known = _remembered(record)
    if known and (hub.is_offline() or _COMMIT.fullmatch(revision)):  # a commit does not change
        return known
    known = known or _of_the_clients_cache(name, revision)
    if hub.is_offline():
        if known is None:
            raise OfflineError(
                f"{name} at {revision} is in no cache that states its digest, and {' or '.join(hub.OFFLINE)} forbids "
                f"the network. If you have its {WEIGHTS}, give the path of its folder instead"
            )
        return known
    try:
        found = _ask(name, revision, known)
    except hub.SourceError as error:
        if known is None:
            raise FetchError(f"cannot get {name} at {revision}: {error}") from None
        _log.warning("cannot look up %s at %s: %s; continuing with what was found before", name, revision, error)
        return known
    _remember(record, found)
    return found


def _ask(name: str, revision: str, known: Snapshot | None) -> Snapshot:
    asked = hub.Hub()
    source = f"hf://{name}/{WEIGHTS}@{revision}"
    stated = asked.state(source)
    if stated is None:
        raise FetchError(f"cannot get {WEIGHTS} of {name}: there is none at {revision} (HTTP 404)")
    if known and stated.commit == known.commit:
        return known
    if len(stated.digest) != 64:
        raise FetchError(
            f"cannot verify {source}: it is stored in git itself, not in LFS or Xet, so the hub states no SHA-256 of "
            "it: download the folder yourself, and give its path"
        )
    at = stated.commit or revision
    config = asked.read(f"hf://{name}/{CONFIG}@{at}", _MOST_CONFIG)
    return Snapshot(_weights_file(name, at, stated.digest, stated.size), _text(config), at)


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "replace")


def _weights_file(name: str, revision: str, digest: str, size: int | None = None) -> WeightsFile:
    """The weights, under a name in the cache that no other file has."""
    file = f"hf--{name.replace('/', '--')[:140]}-{digest[:8]}.safetensors"
    return WeightsFile(file, "safetensors", (f"hf://{name}/{WEIGHTS}@{revision}",), sha256=digest, size=size)


def _record_path(name: str, revision: str) -> Path:
    """Where a lookup's result is kept: one file for each hub, repository and revision."""
    key = hub.source_key(hub.url_of(f"hf://{name}/{WEIGHTS}@{revision}"))
    return cache.folder() / f"hf--{name.replace('/', '--')[:140]}.{key[:8]}.hub.json"


def _remember(path: Path, found: Snapshot) -> None:
    with contextlib.suppress(FetchError, OSError):  # a read-only cache: it is looked up again
        cache.make(path.parent)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(asdict(found)), encoding="utf-8")


def _remembered(path: Path) -> Snapshot | None:
    try:
        facts: Any = json.loads(read_small(path, 8 * _MOST_CONFIG))
        weights = WeightsFile(**{**facts["weights"], "sources": tuple(facts["weights"]["sources"])})
        config, commit = facts["config"], str(facts["commit"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    sound = weights.sha256 and isinstance(config, (str, type(None)))
    return Snapshot(weights, config, commit) if sound else None


def _of_the_clients_cache(name: str, revision: str) -> Snapshot | None:
    """The files in huggingface_hub's own cache, if it names them by their digests, as it does where links work."""
    weights, config = (_held(name, file, revision) for file in (WEIGHTS, CONFIG))
    if weights is None or len(weights.name) != 64:
        return None
    # The weights are checked when they are copied.
    return Snapshot(_weights_file(name, revision, weights.name), _text(_checked(config) if config else None), revision)


def _checked(path: Path) -> bytes | None:
    try:
        data = read_small(path, _MOST_CONFIG)
    except OSError:
        return None
    return data if hub.blob_digest(data, path.name) == path.name else None


def _held(name: str, file: str, revision: str) -> Path | None:
    """A file in huggingface_hub's cache, named by its digest; None if it is not there, or its digest is unknown."""
    found = hub.HuggingFace().local(f"hf://{name}/{file}@{revision}")
    path = None if found is None else Path(os.path.realpath(found))
    return path if path and re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", path.name) else None
