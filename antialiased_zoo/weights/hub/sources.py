"""Sources: how a file is fetched from an address, by the address's scheme."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import DigestError
from ..addresses import check_file_name, check_url
from ..regular import open_regular
from ..schemes import Scheme, find_scheme
from ..weights_file import WeightsFile
from .cache import disk_errors
from .connection import Network
from .digest import sha256
from .download import Download
from .exchange import Answer
from .part import Note, Part
from .retry import Retry, SourceError
from .stamps import check_pin
from .tokens import authorization


@dataclass
class Job:
    """One file to fetch, with the two ways to fill a part.

    Attributes:
        file: The file.
        target: Its path in the cache.
        private: Whether other processes may be fetching the same file.
        retry: Timeouts and retries.
        network: What this fetch has learnt about hosts.
        progress: Whether to show a progress bar.
        part: The part that was filled last, which holds the bytes until they are verified.
    """

    file: WeightsFile
    target: Path
    private: bool
    retry: Retry
    network: Network
    progress: bool
    part: Part = field(init=False)

    def copy(self, path: Path) -> None:
        """Fill a part from a local file.

        Raises:
            SourceError: There is no such file.
            CacheError: The disk refuses.
        """
        if not path.is_file():
            raise SourceError("is not in this installation")
        self.part = Part(self.target, str(path), private=self.private)
        with disk_errors(self.target.parent), open_regular(path) as source:
            size = os.fstat(source.fileno()).st_size
            try:
                with self.part.begin(Note("", size)) as part:
                    shutil.copyfileobj(source, part, 1024 * 1024)
            except BaseException:
                self.part.discard()
                raise

    def download(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        inspect: Callable[[Answer], None] = lambda answer: None,
    ) -> bool:
        """Fill a part from an http(s) address, resuming an earlier attempt if possible.

        Args:
            url: The address.
            headers: Headers to send; ``Authorization`` is sent only to the address's own host.
            inspect: Called with every response, including redirects; may raise `SourceError`.

        Returns:
            True if a wrong digest may come right with another try; see `Scheme.fetch`.
        """
        self.part = Part(self.target, url, private=self.private)
        from tqdm import tqdm

        hide = None if self.progress else True  # None hides it if standard error is not a terminal
        with tqdm(desc=self.file.file, unit="B", unit_scale=True, unit_divisor=1024, disable=hide, leave=False) as bar:
            load = Download(url, self.part, self.retry, self.network, bar, headers or {}, self.file.size, inspect)
            return load.run()

    def check(self) -> str:
        """Verify the part and return its SHA-256.

        Raises:
            SourceError: The digest is wrong, and the part is discarded; or there is no part.
            PinError: The file is not the one first seen under this name; the part is discarded.
        """
        if not hasattr(self, "part"):
            raise SourceError("its scheme called neither job.download() nor job.copy()")
        with disk_errors(self.part.path), open_regular(self.part.path, follow=False) as data:
            digest = sha256(data)
        if not self.file.accepts(digest):
            self.part.discard()
            raise SourceError(f"its SHA-256 is {digest}, expected {self.file.digest}")
        try:
            check_pin(self.target, digest)
        except DigestError:
            self.part.discard()
            raise
        return digest


class Web(Scheme):
    """The schemes ``https://``, and ``http://`` on this machine."""

    def check(self, source: str) -> None:
        """Check the URL with `check_url`."""
        check_url(source)

    def fetch(self, source: str, job: Job) -> bool:
        """Download, with the user's token if the address is the Hugging Face Hub's."""
        return job.download(source, authorization(source))


class Packaged(Scheme):
    """The scheme ``package:FILE``: a file inside the installed package."""

    in_place = True

    def check(self, source: str) -> None:
        """Refuse a source that is not a plain file name."""
        check_file_name(source.removeprefix("package:"))

    def local(self, source: str) -> Path:
        """Return the path of the file, which may not be in this installation."""
        return Path(__file__).resolve().parents[1] / "packaged" / source.removeprefix("package:")

    def fetch(self, source: str, job: Job) -> bool:
        """Copy the file again, so that the error says why it was not used."""
        job.copy(self.local(source))
        return False


def obtain(source: str, job: Job, *, offline: bool = False) -> str:
    """Fill a part from one source, verify it and return its SHA-256.

    Raises:
        SourceError: The source does not provide the file; the message says why.
        PinError: The file is not the one first seen under this name.
        CacheError: The disk refuses.
    """
    scheme = find_scheme(source)
    local = scheme.local(source)
    if local is not None:
        with contextlib.suppress(SourceError):  # the local file may be damaged
            job.copy(local)
            return job.check()
    if offline:
        raise SourceError("is not on this machine")
    doubtful = scheme.fetch(source, job)
    try:
        return job.check()
    except SourceError:
        if not doubtful:
            raise  # a single, whole response would be the same again
    scheme.fetch(source, job)
    return job.check()
