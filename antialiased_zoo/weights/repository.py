"""Reads a network's weights and record from a path, a URL, or a repository of the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, DigestError, FetchError, MalformedFileError, OfflineError
from .checkpoints import Contents, read_contents
from .config import NetworkConfig
from .hub import fetch, is_offline
from .weights_file import WeightsFile

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
PREFIX = "hf-hub:"
_ID = re.compile(r"(?:[\w.-]+/)?[\w.-]+")
_BLOCK = 1 << 20


def open_place(place: str) -> Contents:
    """Read the weights file at a path, in a folder, at a URL or in a repository of the hub.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a URL states no digest.
        CheckpointError: If the file is corrupt.
        FetchError: If it cannot be fetched.
    """
    if place.startswith(PREFIX):
        return read_folder(download(place))
    if "://" in place:
        return read_contents(fetch(_linked(place)))
    path = Path(place).expanduser()
    if path.is_dir():
        return read_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"pretrained={place!r}: there is no such file, and it cannot be a recipe's name")
    return read_contents(path)


def _linked(url: str) -> WeightsFile:
    """The file at a URL, which must state its digest, since unverified files are not read."""
    address, _, fragment = url.partition("#sha256=")
    file = address.partition("?")[0].rpartition("/")[2].partition("@")[0]
    in_name = re.search(r"-([0-9a-f]{8,64})\.\w+$", file)
    if not (fragment or in_name):
        raise ValueError(
            f"pretrained={url!r} states no digest: append #sha256=<64 hex digits>, or name a file that ends in "
            "-<8 or more hex digits of its SHA-256>.pth"
        )
    kind = "safetensors" if file.endswith(".safetensors") else "pickle"
    if fragment and not in_name:  # many are called model.safetensors: give each a unique name in the cache
        file = f"{Path(file).stem}-{fragment[:8]}{Path(file).suffix}"
    digests = {"sha256": fragment} if fragment else {"sha256_prefix": in_name[1] if in_name else None}
    return WeightsFile(file, kind, (address,), **digests)


def read_folder(folder: Path) -> Contents:
    """Read a network's weights from a folder that `save_pretrained` wrote.

    Raises:
        CheckpointError: If a file is missing or damaged; the message names it.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {WEIGHTS}: give a folder that save_pretrained() wrote, or a file")
    contents = read_contents(path)
    stated = _record(folder / CONFIG)
    if stated is None or contents.config is None:
        return replace(contents, config=contents.config or stated)
    if difference := contents.config.difference(stated):
        raise CheckpointError(f"{folder}: {WEIGHTS} and {CONFIG} contradict each other: {difference}")
    return contents


def _record(path: Path) -> NetworkConfig | None:
    try:
        top: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise MalformedFileError(f"cannot read {path}: {error}") from None
    record = top.get(NetworkConfig.KEY) if isinstance(top, dict) else None
    return None if record is None else NetworkConfig.from_json(json.dumps(record))


def download(repository: str) -> Path:
    """Fetch a network's files from the hub, each verified, and return their folder.

    Args:
        repository: ``hf-hub:owner/name`` or ``hf-hub:owner/name@revision``.

    Raises:
        ValueError: If the name is invalid.
        FetchError: If the hub does not provide them, or a file does not have the stated digest.
    """
    name, _, revision = repository.removeprefix(PREFIX).partition("@")
    if not _ID.fullmatch(name):
        raise ValueError(f"{repository!r} is not a repository: write hf-hub:owner/name or hf-hub:owner/name@revision")
    from huggingface_hub import errors

    with contextlib.suppress(errors.EntryNotFoundError):  # the weights may be enough
        _fetch(name, CONFIG, revision or None)
    return _fetch(name, WEIGHTS, revision or None).parent


def _fetch(name: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import errors, hf_hub_download

    try:
        path = Path(hf_hub_download(name, file, revision=revision, token=_token(), local_files_only=is_offline()))
    except errors.LocalEntryNotFoundError as error:
        if is_offline():
            raise OfflineError(f"{file} of {name} is not in the hub's cache, and the network is forbidden") from None
        raise FetchError(f"cannot get {file} of {name}: {_first_line(error)}") from None
    except (errors.EntryNotFoundError, errors.HfHubHTTPError) as error:
        if isinstance(error, errors.EntryNotFoundError) and file == CONFIG:
            raise
        raise FetchError(f"cannot get {file} of {name}: {_first_line(error)}") from None
    except OSError as error:
        raise FetchError(f"cannot get {file} of {name}: {_first_line(error)}") from None
    _verify(path)
    return path


def _token() -> str | bool | None:
    """The token argument: the user's token for the hub itself, none for other endpoints."""
    from huggingface_hub import constants

    from .hub.tokens import TOKEN_HOSTS

    host = constants.ENDPOINT.partition("://")[2].partition("/")[0]
    return None if host in TOKEN_HOSTS else False


def _verify(path: Path) -> None:
    """Verify a file in the hub's cache, where its name is the digest that the hub states."""
    blob = Path(os.path.realpath(path))
    stated = blob.name
    if re.fullmatch("[0-9a-f]{64}", stated):
        digest = hashlib.sha256()
    elif re.fullmatch("[0-9a-f]{40}", stated):  # stored in git itself, not in LFS
        digest = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
    else:
        return  # a cache without links: the client has checked only the size
    with blob.open("rb") as data:
        while block := data.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != stated:
        raise DigestError(f"{path} is not the file that the hub states ({stated}): delete it and try again")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
