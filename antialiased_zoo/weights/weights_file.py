"""One file of weights as a manifest states it: name, digest, sources; every rule is checked here, once."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import urlsplit

FORMATS = ("pickle", "safetensors")
# Names this package puts beside a weights file; an entry must not claim one of them.
OWN_SUFFIXES = (".part", ".part.json", ".lock", ".verified", ".bad", ".tmp", ".converted.safetensors")
# What Windows refuses or gives a second meaning, so that one manifest works everywhere.
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_HF = re.compile(r"hf://([\w.-]+/[\w.-]+)/([^@]+)@([\w.-]+(?:/[\w.-]+)*)")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class WeightsFile:
    """Where one file comes from and how to know that it is the right one.

    Attributes:
        file: its name in the cache folder.
        format: ``"pickle"`` or ``"safetensors"``.
        sources: places to try in turn: ``https://``, ``hf://owner/repo/file@revision``,
            ``package:file`` (inside the installed package), or what `register_scheme` has added.
        sha256: all 64 hex digits of its digest, or ``None`` where only the first few are public.
        sha256_prefix: the first 8 or more hex digits (of ``sha256`` if that is given).
        size: bytes, where known.
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
            ValueError: a field breaks a rule; the message names it.
        """
        check_file_name(self.file)
        if self.format not in FORMATS:
            raise ValueError(f"format is {self.format!r}; it must be one of {FORMATS}")
        self._check_digest()
        if not self.sources:
            raise ValueError("sources is empty; state at least one place the file comes from")
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
            raise ValueError(f"sha256_prefix {self.sha256_prefix!r} does not begin sha256 {self.sha256!r}")

    @property
    def digest(self) -> str:
        """What is publicly known of the SHA-256: all of it, or its beginning."""
        return self.sha256 or self.sha256_prefix or ""

    def accepts(self, digest: str) -> bool:
        """Tell whether a file's full SHA-256 ``digest`` is the one stated."""
        return len(digest) == 64 and digest.startswith(self.digest)

    @property
    def files(self) -> tuple[WeightsFile, ...]:
        """Itself alone, so that a single file can be fetched like an entry."""
        return (self,)

    @property
    def notice(self) -> str:
        """No word on a licence: an entry has one, a bare file does not."""
        return ""


def _is_hex(text: object, shortest: int, longest: int) -> bool:
    return isinstance(text, str) and re.fullmatch(rf"[0-9a-f]{{{shortest},{longest}}}", text) is not None


def check_file_name(name: object) -> None:
    """Refuse a name that is not one plain file name on every system.

    Raises:
        ValueError: says what is wrong with it.
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
        raise ValueError(f"file is {name!r}; the endings {OWN_SUFFIXES} are kept for the cache's own files")


def check_source(source: object) -> None:
    """Refuse a source of no known scheme, or that breaks its scheme's rules.

    Raises:
        ValueError: says what is wrong with it.
    """
    if not isinstance(source, str) or not source.isprintable() or " " in source:
        raise ValueError(f"source is {source!r}; it must be a URL without spaces")
    from .hub.sources import find_scheme

    find_scheme(source).check(source)


def check_url(url: str) -> None:
    """Refuse a URL that is not https (http on loopback only).

    Raises:
        ValueError: says what is wrong with it.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"source {url!r} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"source is {url!r}; it must begin with https://, hf:// or package:")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise ValueError(f"source is {url!r}; http:// is allowed for this machine only, use https://")
    if parts.username or parts.password:
        raise ValueError(f"source for {host!r} holds a user name or password; keep those out of manifests")
    if ".." in parts.path.split("/"):
        raise ValueError(f"source is {url!r}; its path must not contain '..'")


def parse_hf(source: str) -> tuple[str, str, str]:
    """Split ``hf://owner/repo/file@revision`` into ``("owner/repo", "file", "revision")``.

    Raises:
        ValueError: a part is missing; a revision is required, so that a moved branch cannot change
            the file.
    """
    match = _HF.fullmatch(source)
    if match is None or not all(map(_is_plain, re.split("[/@]", source[5:]))):
        raise ValueError(f"source is {source!r}; it must look like hf://owner/repo/file@revision")
    return match[1], match[2], match[3]


def _is_plain(part: str) -> bool:
    return part not in ("", ".", "..") and not _FORBIDDEN.search(part)
