"""Schemes: the kinds of sources, each registered under the beginning of its addresses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .hub.sources import Job


class Scheme:
    """Base class of the kinds of sources: subclass it, and register an instance with `register_scheme`.

    Example:
        >>> class Bucket(Scheme):
        ...     '''``s3://BUCKET/KEY``, for public files.'''
        ...
        ...     def fetch(self, source, job):
        ...         bucket, _, key = source.removeprefix("s3://").partition("/")
        ...         return job.download(f"https://{bucket}.s3.amazonaws.com/{key}")
        >>> register_scheme("s3", Bucket())  # doctest: +SKIP
    """

    #: True if the file that `local` returns is used in place, not copied into the cache.
    in_place = False

    def check(self, source: str) -> None:
        """Check an address.

        Raises:
            ValueError: It breaks a rule of this scheme; the message says which.
        """

    def local(self, source: str) -> Path | None:
        """Return a local file that may have the bytes, found without the network, or None."""
        return None

    def fetch(self, source: str, job: Job) -> bool:
        """Fill a part with ``job.download`` or ``job.copy``; its digest is checked afterwards.

        Returns:
            True if a wrong digest may come right with another try, since the bytes come from more
            than one response, or may have been cut short: they are then fetched again, once.

        Raises:
            SourceError: The source does not provide the file; the message says why.
        """
        raise NotImplementedError


_SCHEMES: dict[str, Scheme] = {}


def register_scheme(name: str, scheme: Scheme) -> None:
    """Register a scheme for sources in manifests that begin with ``NAME:``.

    Args:
        name: The part before the first colon, in lower case.
        scheme: Fetches files from such addresses.

    Raises:
        ValueError: The name is taken, or invalid.
    """
    if not name.isascii() or not name.isalnum() or name != name.lower():
        raise ValueError(f"a scheme's name must be lower-case letters and digits, got {name!r}")
    if name in _SCHEMES:
        raise ValueError(f"the scheme {name!r} is already registered")
    _SCHEMES[name] = scheme


def find_scheme(source: str) -> Scheme:
    """Return the scheme of an address.

    Raises:
        ValueError: The scheme is unknown.
    """
    scheme = _SCHEMES.get(source.partition(":")[0])
    if scheme is None:
        known = ", ".join(f"{name}:" for name in _SCHEMES)
        raise ValueError(f"source is {source!r}; it must begin with one of {known}")
    return scheme


def check_source(source: object) -> None:
    """Check that a source has a known scheme and follows its rules.

    Raises:
        ValueError: It does not; the message says why.
    """
    if not isinstance(source, str) or not source.isprintable() or " " in source:
        raise ValueError(f"source is {source!r}; it must be a URL without spaces")
    find_scheme(source).check(source)
