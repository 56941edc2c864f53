"""Reads a network's weights and record from a path, a URL, or a repository of the Hugging Face Hub."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, MalformedFileError
from . import snapshots
from .addresses import parse_hf
from .checkpoints import Contents, read_contents
from .config import NetworkConfig
from .hub import fetch, redacted
from .schemes import find_scheme
from .snapshots import CONFIG as CONFIG
from .snapshots import WEIGHTS as WEIGHTS
from .weights_file import WeightsFile

PREFIX = "hf-hub:"
_ID = re.compile(r"[\w.-]+/[\w.-]+")


def open_place(place: str) -> Contents:
    """Read the weights file at a path, in a folder, at a URL or in a repository of the hub.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a URL states no digest.
        CheckpointError: If the file is corrupt.
        FetchError: If it cannot be fetched.
    """
    if place.startswith(PREFIX):
        return _read_repository(place)
    if "://" in place:
        return read_contents(fetch(_linked(place)))
    path = Path(place).expanduser()
    if path.is_dir():
        return read_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file or folder {place!r}; a repository of the hub is hf-hub:OWNER/NAME")
    return read_contents(path)


def _linked(url: str) -> WeightsFile:
    """The file at a URL, which must state its digest, since unverified files are not read."""
    find_scheme(redacted(url))
    address, _, fragment = url.partition("#sha256=")
    fragment = fragment.lower()  # some tools print capitals
    file = address.partition("?")[0].rpartition("/")[2].partition("@")[0]
    in_name = re.search(r"-([0-9a-f]{8,64})\.\w+$", file)
    if not (fragment or in_name):
        raise ValueError(
            f"pretrained={redacted(url)!r} states no digest: append #sha256=<64 hex digits>, or name a file that ends "
            "in -<8 or more hex digits of its SHA-256>.pth"
        )
    kind = "safetensors" if file.endswith(".safetensors") else "pickle"
    # Many are called model.safetensors, or end in a date: give each a name of its own in the cache.
    if fragment and not (in_name and fragment.startswith(in_name[1])):
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
    try:
        text = (folder / CONFIG).read_text(encoding="utf-8")
    except FileNotFoundError:
        return read_contents(path)
    except (OSError, ValueError) as error:
        raise MalformedFileError(f"cannot read {folder / CONFIG}: {error}") from None
    return _with_record(read_contents(path), _record(text, str(folder / CONFIG)), str(folder))


def _with_record(contents: Contents, stated: NetworkConfig | None, place: str) -> Contents:
    if stated is None or contents.config is None:
        return replace(contents, config=contents.config or stated)
    if difference := contents.config.difference(stated):
        raise CheckpointError(f"{place}: {WEIGHTS} and {CONFIG} contradict each other: {difference}")
    return contents


def _record(text: str, where: str) -> NetworkConfig | None:
    try:
        top: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedFileError(f"cannot read {where}: {error}") from None
    record = top.get(NetworkConfig.KEY) if isinstance(top, dict) else None
    return None if record is None else NetworkConfig.from_json(json.dumps(record))


def _read_repository(place: str) -> Contents:
    """Read a network's weights from the hub, each file verified.

    Raises:
        ValueError: If the name is invalid.
        FetchError: If the hub does not provide them, or a file does not have the stated digest.
        CheckpointError: If a file is damaged; the message names it.
    """
    name, _, revision = place.removeprefix(PREFIX).partition("@")
    try:
        parse_hf(f"hf://{name}/{WEIGHTS}@{revision or 'main'}")
        if not _ID.fullmatch(name):
            raise ValueError(name)
    except ValueError:
        raise ValueError(
            f"{place!r} is not a repository: write hf-hub:owner/name or hf-hub:owner/name@revision"
        ) from None
    found = snapshots.find(name, revision or "main")
    stated = None if found.config is None else _record(found.config, f"{CONFIG} of {name}")
    return _with_record(read_contents(found.path), stated, place)
