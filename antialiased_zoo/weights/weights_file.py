"""A weights file as stated in a manifest (name, digest, sources), and the checks of its fields."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .addresses import check_file_name
from .schemes import check_source

FORMATS = ("pickle", "safetensors")


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
