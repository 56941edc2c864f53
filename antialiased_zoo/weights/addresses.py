"""Checks of file names and addresses in manifests."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from urllib.parse import urlsplit

# Endings of this package's own files next to a weights file; an entry must not use them.
OWN_SUFFIXES = (".part", ".part.json", ".lock", ".verified", ".bad", ".tmp", ".converted.safetensors")
# Characters that Windows forbids or treats specially, so that a manifest works everywhere.
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_HF = re.compile(r"hf://([\w.-]+/[\w.-]+)/([^@]+)@([\w.-]+(?:/[\w.-]+)*)")


def check_file_name(name: object) -> None:
    """Check that a name is a plain file name on every system.

    Raises:
        ValueError: It is not; the message says why.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"file is {name!r}; it must be a file name")
    if len(name.encode("utf-8", "surrogatepass")) > 180:
        raise ValueError(f"file is longer than 180 bytes: {name[:40]!r}...")
    if _FORBIDDEN.search(name) or name[0] in ".~-" or name[-1] in ". " or _RESERVED.fullmatch(name):
        raise ValueError(f"file is {name!r}; it must be a plain file name, without folders or reserved characters")
    if not name.isprintable() or unicodedata.normalize("NFC", name) != name:
        raise ValueError(f"file is {name!r}; it must be printable and in Unicode's composed form (NFC)")
    if name.lower().endswith(OWN_SUFFIXES):
        raise ValueError(f"file is {name!r}; the endings {OWN_SUFFIXES} are reserved for the cache's own files")


def is_loopback(host: str) -> bool:
    """True if a host is this machine, by its name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_url(url: str) -> None:
    """Check that a URL is valid and https (http only on loopback).

    Raises:
        ValueError: It is not; the message says why.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"source {url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"source is {url!r}; it must begin with https:// (http:// on this machine)")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(f"source is {url!r}; http:// is allowed only for this machine, use https://")
    if parts.username or parts.password:
        raise ValueError(f"source for {host!r} contains a user name or password; keep those out of manifests")
    if ".." in parts.path.split("/"):
        raise ValueError(f"source is {url!r}; its path must not contain '..'")


def parse_hf(source: str) -> tuple[str, str, str]:
    """Split ``hf://owner/repo/file@revision`` into ``("owner/repo", "file", "revision")``.

    Raises:
        ValueError: A part is missing; the revision is required, so that a moved branch cannot change
            the file.
    """
    match = _HF.fullmatch(source)
    if match is None or not all(map(_is_plain, re.split("[/@]", source[5:]))):
        raise ValueError(f"source is {source!r}; it must look like hf://owner/repo/file@revision")
    return match[1], match[2], match[3]


def _is_plain(part: str) -> bool:
    return part not in ("", ".", "..") and not _FORBIDDEN.search(part)
