"""Kinds of sources: how a file is had from an address, by the scheme that the address begins with."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DigestError
from ..regular import open_regular
from ..weights_file import WeightsFile, check_file_name, check_url
from .cache import disk_errors
from .connection import Network
from .digest import sha256
from .download import Download
from .exchange import Answer
from .part import Note, Part
from .retry import Retry, SourceError
from .stamps import check_pin

if TYPE_CHECKING:
    from tqdm import tqdm


@dataclass(frozen=True)
class Job:
    """One file to be fetched: what it is, where its bytes go, and the two ways to put them there.

    Attributes:
        file: What is wanted.
        target: Its path in the cache.
        part: Where the bytes go until they are known to be right.
        retry: How long to wait for what.
        network: What this fetch knows of hosts.
        progress: Whether to show a bar.
    """

    file: WeightsFile
    target: Path
    part: Part
    retry: Retry
    network: Network
    progress: bool

    def copy(self, path: Path) -> None:
        """Fill the part from a file.

        Raises:
            SourceError: There is no such file.
            CacheError: The disk refuses.
        """
        if not path.is_file():
            raise SourceError("is not in this installation")
        with disk_errors(self.part.path.parent), open_regular(path) as source:
            size = os.fstat(source.fileno()).st_size
            with self.part.begin(Note.of("", "", size)) as part:
                shutil.copyfileobj(source, part, 1024 * 1024)

    def download(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        inspect: Callable[[Answer], None] = lambda answer: None,
    ) -> bool:
        """Fill the part from an http(s) address, going on where an earlier attempt stopped.

        Args:
            url: The address.
            headers: To send; ``Authorization`` goes to the address's own host alone.
            inspect: Called with every answer, redirects included; may raise `SourceError`.

        Returns:
            Whether the bytes come from more than one answer.
        """
        with _bar(self) as bar:
            load = Download(url, self.part, self.retry, self.network, bar, headers or {}, self.file.size, inspect)
            return load.run()

    def check(self) -> str:
        """Return the part's SHA-256, which is the one wanted.

        Raises:
            SourceError: It is another; the part is gone.
            PinError: The file is not the one first seen under this name; the part is gone.
        """
        with disk_errors(self.part.path), open_regular(self.part.path, follow=False) as data:
            digest = sha256(data)
        if not self.file.accepts(digest):
            self.part.discard()
            raise SourceError(f"its SHA-256 is {digest}, wanted is {self.file.digest}")
        try:
            check_pin(self.target, digest)
        except DigestError:
            self.part.discard()
            raise
        return digest


class Scheme:
    """One kind of source. Subclass it, and register an instance with `register_scheme`.

    Example:
        >>> class Bucket(Scheme):
        ...     '''``s3://BUCKET/KEY``, for what is public.'''
        ...
        ...     def fetch(self, source, job):
        ...         bucket, _, key = source.removeprefix("s3://").partition("/")
        ...         return job.download(f"https://{bucket}.s3.amazonaws.com/{key}")
        >>> register_scheme("s3", Bucket())  # doctest: +SKIP
    """

    #: Whether `local`'s file is used where it is, instead of being copied into the cache.
    in_place = False

    def check(self, source: str) -> None:
        """Refuse an address that breaks this scheme's rules.

        Raises:
            ValueError: Says which.
        """

    def local(self, source: str) -> Path | None:
        """Return a file on this machine that may have the bytes, found without the network, or None."""
        return None

    def fetch(self, source: str, job: Job) -> bool:
        """Fill ``job.part``; its digest is checked afterwards.

        Returns:
            Whether the bytes come from more than one piece: if their digest is wrong, they are
            asked for anew.

        Raises:
            SourceError: The source does not give the file; says why.
        """
        raise NotImplementedError


class Web(Scheme):
    """``https://`` addresses, and ``http://`` on this machine."""

    def check(self, source: str) -> None:
        """Refuse what `check_url` refuses."""
        check_url(source)

    def fetch(self, source: str, job: Job) -> bool:
        """Download."""
        return job.download(source)


class Packaged(Scheme):
    """``package:FILE``: inside the installed package."""

    in_place = True

    def check(self, source: str) -> None:
        """Refuse what is no plain file name."""
        check_file_name(source.removeprefix("package:"))

    def local(self, source: str) -> Path:
        """Return where the file is, if it is in this installation."""
        return Path(__file__).resolve().parents[1] / "packaged" / source.removeprefix("package:")

    def fetch(self, source: str, job: Job) -> bool:
        """Copy the file once more, for the reason why it was not used."""
        job.copy(self.local(source))
        return False


_SCHEMES: dict[str, Scheme] = {"https": Web(), "http": Web(), "package": Packaged()}


def register_scheme(name: str, scheme: Scheme) -> None:
    """Let sources in manifests begin with ``NAME:``.

    Args:
        name: What stands before the first colon, in lower case.
        scheme: Knows how to fetch from such an address.

    Raises:
        ValueError: The name is taken, or no scheme's.
    """
    if not name.isascii() or not name.isalnum() or name != name.lower():
        raise ValueError(f"a scheme's name is lower-case letters and digits, not {name!r}")
    if name in _SCHEMES:
        raise ValueError(f"the scheme {name!r} is registered already")
    _SCHEMES[name] = scheme


def find_scheme(source: str) -> Scheme:
    """Return the scheme of an address.

    Raises:
        ValueError: There is none.
    """
    scheme = _SCHEMES.get(source.partition(":")[0])
    if scheme is None:
        known = ", ".join(f"{name}:" for name in _SCHEMES)
        raise ValueError(f"source is {source!r}; it must begin with one of {known}")
    return scheme


def obtain(source: str, job: Job, *, offline: bool = False) -> str:
    """Fill the job's part from one source and return its SHA-256, which is the one wanted.

    Raises:
        SourceError: The source does not give the file; says why.
        PinError: The file is not the one first seen under this name.
        CacheError: The disk refuses.
    """
    scheme = find_scheme(source)
    local = scheme.local(source)
    if local is not None:
        with contextlib.suppress(SourceError):  # what lies there may be damaged
            job.copy(local)
            return job.check()
    if offline:
        raise SourceError("is not on this machine")
    joined = scheme.fetch(source, job)
    try:
        return job.check()
    except SourceError:
        if not joined:
            raise  # what came in one piece would come the same again
    scheme.fetch(source, job)
    return job.check()


def _bar(job: Job) -> tqdm[Any]:
    from tqdm import tqdm

    # disable=None silences the bar where standard error is not a terminal.
    disable = None if job.progress else True
    return tqdm(desc=job.file.file, unit="B", unit_scale=True, unit_divisor=1024, disable=disable, leave=False)
