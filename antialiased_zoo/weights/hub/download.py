"""One URL -> the bytes of one part: retries what may heal, resumes, and gives up at once on what will not."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from ...errors import CacheError
from .cache import disk_errors
from .part import Note, Part
from .responses import check_begins, check_continues, check_status, content_length, network_errors, validator
from .retry import Patience, SourceError

if TYPE_CHECKING:
    import requests
    from tqdm import tqdm

_log = logging.getLogger(__name__)
_CHUNK = 1024 * 1024
# Larger than any weights this package knows of; a server that never stops sending must not fill the disk.
MAX_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class Download:
    """What to get from where, and how.

    Attributes:
        url: an ``http(s)`` address.
        part: where the bytes go.
        patience: how long to wait for what.
        bar: told of the bytes.
        headers: to send; ``Authorization`` goes to the URL's own host only.
        size: the file's size, where the manifest knows it.
    """

    url: str
    part: Part
    patience: Patience
    bar: tqdm[Any]
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    size: int | None = None

    def run(self) -> bool:
        """Fill the part, going on where an earlier attempt stopped. It is complete then, but not verified.

        Returns:
            Whether the bytes come from more than one response: then a wrong digest may be bad luck.

        Raises:
            SourceError: the source is given up; says why.
            CacheError: the disk refuses.
        """
        try:
            with network_errors(), _session(self.headers) as session:
                return self._persist(session)
        except BaseException:
            if self.part.note(self.url) is None:
                self.part.discard()  # nobody could go on with it
            raise

    def _persist(self, session: requests.Session) -> bool:
        failures = 0
        while True:
            before = self.part.size
            try:
                return self._attempt(session)
            except SourceError as error:
                failures = 1 if self.part.size - before >= _CHUNK else failures + 1
                pause = self.patience.pause(error, failures)
                if pause is None:
                    raise
                _log.info("%s: %s; trying again in %.1f s", self.url, error, pause)
            time.sleep(pause)

    def _attempt(self, session: requests.Session) -> bool:
        note = self.part.note(self.url)
        start = self.part.size if note else 0
        if note and note.total == start:
            return True
        ask = {"Range": f"bytes={start}-", "If-Range": note.validator} if note else {}
        timeout = (self.patience.connect, self.patience.read)
        with network_errors(), session.get(self.url, stream=True, timeout=timeout, headers=ask) as response:
            check_status(response, self.part)
            if response.status_code == 206:
                note = check_continues(response, note, self.part)
            else:
                note, start = Note(self.url, validator(response), content_length(response)), 0
            self._check_total(note.total)
            self._show(start, note.total)
            with self.part.reopen() if start else self.part.begin(note) as file:
                got = start + self._copy(response, file, start)
        if note.total is not None and got < note.total:
            raise SourceError(f"ended after {got:,} of {note.total:,} bytes", heals=True)
        return start > 0

    def _check_total(self, total: int | None) -> None:
        if self.size is not None and total is not None and total != self.size:
            raise SourceError(f"offers {total:,} bytes, the file has {self.size:,}")
        if total is not None and total > MAX_BYTES:
            raise SourceError(f"offers {total:,} bytes, more than any weights file ({MAX_BYTES:,})")

    def _show(self, start: int, total: int | None) -> None:
        self.bar.reset(total)
        self.bar.update(start)

    def _copy(self, response: requests.Response, file: IO[bytes], start: int) -> int:
        limit = (self.size or MAX_BYTES) - start
        got, since, seen = 0, time.monotonic(), 0
        # read1 returns what has come, so that a trickle is seen as one; read would wait for a full chunk.
        while data := response.raw.read1(_CHUNK, decode_content=True):
            if start == 0 and got == 0:
                check_begins(data)
            got += len(data)
            if got > limit:
                self.part.discard()
                raise SourceError(f"sent more than the {limit:,} bytes that were to come")
            self._write(file, data)
            self.bar.update(len(data))
            if time.monotonic() - since >= self.patience.window:
                if got - seen < self.patience.slowest * self.patience.window:
                    raise SourceError(f"slower than {self.patience.slowest:,.0f} bytes a second")
                since, seen = time.monotonic(), got
        return got

    def _write(self, file: IO[bytes], data: bytes) -> None:
        try:
            with disk_errors(self.part.path.parent):
                view = memoryview(data)
                while view:  # an unbuffered file may take less than it is given
                    view = view[file.write(view) :]
        except CacheError:
            self.part.discard()  # a full disk is not helped by half a file on it
            raise


def _session(headers: Mapping[str, str]) -> requests.Session:
    import requests

    class Session(requests.Session):
        """Follows redirects, but not from https to http; requests drops ``Authorization`` on another host."""

        def get_redirect_target(self, resp: requests.Response) -> str | None:
            target = super().get_redirect_target(resp)
            if target and target.startswith("http://") and resp.url.startswith("https://"):
                raise SourceError("redirects from https to http, which is refused")
            return target

    session = Session()
    session.max_redirects = 10
    # gzip would hide the length and make resuming impossible.
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "antialiased-zoo", **headers})
    # requests itself reads REQUESTS_CA_BUNDLE, which wins, but not the name that everything else reads.
    session.verify = os.environ.get("SSL_CERT_FILE") or True
    return session
