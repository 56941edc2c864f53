"""A weights file as stated in a manifest (name, digest, sources), and the checks of its fields."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import urlsplit

FORMATS = ("pickle", "safetensors")
# Endings of this package's own files next to a weights file; an entry must not use them.
OWN_SUFFIXES = (".part", ".part.json", ".lock", ".verified", ".bad", ".tmp", ".converted.safetensors")
# Characters that Windows forbids or treats specially, so that a manifest works everywhere.
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_HF = re.compile(r"hf://([\w.-]+/[\w.-]+)/([^@]+)@([\w.-]+(?:/[\w.-]+)*)")


@dataclass(frozen=True)
class WeightsFile:
    """A file's name, sources and digest.

    Attributes:
        file: Its name in the cache folder.
        format: ``"pickle"`` or ``"safetensors"``.
        sources: Sources to try in order: ``https://``, ``hf://owner/repo/file@revision``,
            ``package:file`` (inside the installed package), or a registered scheme.
        sha256: All 64 hex digits of its digest, or ``None`` if only the first few are public.
        sha256_prefix: The first 8 or more hex digits of its digest.
        size: Size in bytes, if known.
    """

    file: str
    format: str
    sources: tuple[str, ...]
    sha256: str | None = None
    sha256_prefix: str | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: A field breaks a rule; the message names it.
        """
        check_file_name(self.file)
        if self.format not in FORMATS:
            raise ValueError(f"format is {self.format!r}; it must be one of {FORMATS}")
        self._check_digest()
        if not self.sources:
            raise ValueError("sources is empty; state at least one source of the file")
        for source in self.sources:
            check_source(source)
        if self.size is not None and (type(self.size) is not int or self.size <= 0):
            raise ValueError(f"size is {self.size!r}; it must be a positive number of bytes")

    def _check_digest(self) -> None:
        if self.sha256 is None and self.sha256_prefix is None:
            raise ValueError("no digest; state sha256 (64 hex digits) or sha256_prefix (8 or more)")
        if self.sha256 is not None and not _is_hex(self.sha256, 64, 64):
            raise ValueError(f"sha256 is {self.sha256!r}; it must be 64 lower-case hex digits")
        if self.sha256_prefix is not None and not _is_hex(self.sha256_prefix, 8, 64):
            raise ValueError(f"sha256_prefix is {self.sha256_prefix!r}; it must be 8 to 64 lower-case hex digits")
        if self.sha256 and self.sha256_prefix and not self.sha256.startswith(self.sha256_prefix):
            raise ValueError(f"sha256_prefix {self.sha256_prefix!r} is not a prefix of sha256 {self.sha256!r}")

    @property
    def digest(self) -> str:
        """The public part of the SHA-256: all of it, or a prefix."""
        return self.sha256 or self.sha256_prefix or ""

    def accepts(self, digest: str) -> bool:
        """True if a file's full SHA-256 ``digest`` matches the stated one."""
        return len(digest) == 64 and digest.startswith(self.digest)

    @property
    def files(self) -> tuple[WeightsFile, ...]:
        """This file, so that a single file can be fetched like an entry."""
        return (self,)

    @property
    def notice(self) -> str:
        """No notice: only an entry has a licence."""
        return ""


def _is_hex(text: object, shortest: int, longest: int) -> bool:
    return isinstance(text, str) and re.fullmatch(rf"[0-9a-f]{{{shortest},{longest}}}", text) is not None


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


def check_source(source: object) -> None:
    """Check that a source has a known scheme and follows its rules.

    Raises:
        ValueError: It does not; the message says why.
    """
    if not isinstance(source, str) or not source.isprintable() or " " in source:
        raise ValueError(f"source is {source!r}; it must be a URL without spaces")
    from .hub.sources import find_scheme

    find_scheme(source).check(source)


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
        raise ValueError(f"source is {url!r}; it must begin with https://, hf:// or package:")
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
