"""Downloads one URL into a part: resumes, retries transient errors, and gives up at once on permanent ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from ...errors import CacheError
from .cache import disk_errors
from .connection import Network
from .exchange import Answer, request
from .part import Note, Part
from .redaction import redacted
from .responses import check_begins, check_continues, check_status, content_length, end_of, marks_end, validator
from .retry import Retry, SourceError

if TYPE_CHECKING:
    from tqdm import tqdm

# This many new bytes count as progress, which resets the count of failed attempts.
_PROGRESS = 1024 * 1024
# Larger than any known weights file; a server that never stops sending must not fill the disk.
MAX_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class Download:
    """One download.

    Attributes:
        url: An ``http(s)`` address.
        part: The part to write to.
        retry: Timeouts and retries.
        network: What this fetch has learnt about hosts.
        bar: The progress bar.
        headers: Headers to send; ``Authorization`` is sent only to the URL's own host.
        size: The file's size, if the manifest states it.
        inspect: Called with every response, including redirects; may raise.
    """

    url: str
    part: Part
    retry: Retry
    network: Network
    bar: tqdm[Any]
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    size: int | None = None
    inspect: Callable[[Answer], None] = lambda answer: None

    def run(self) -> bool:
        """Complete the part, resuming an earlier attempt if possible; the result is not verified.

        Returns:
            True if a wrong digest may come right with another try: the bytes come from more than one
            response, which may have been two versions of the file, or nobody has stated their number.

        Raises:
            SourceError: The source failed; the message says why.
            CacheError: The disk refuses.
        """
        most = self.part.size

        def has_progressed() -> bool:  # filling a discarded part again is no progress
            nonlocal most
            before, most = most, max(most, self.part.size)
            return self.part.size - before >= _PROGRESS

        try:
            return self.retry.persist(redacted(self.url), self._attempt, has_progressed)
        except BaseException:
            if self.part.private or self.part.note() is None:
                self.part.discard()  # it cannot be resumed
            raise

    def _attempt(self) -> bool:
        note = self.part.note()
        start = self.part.size if note else 0
        if note and start == (note.total or self.size):
            return True
        ask = {"Range": f"bytes={start}-", "If-Range": note.validator} if note else {}
        with request(self.url, self.retry, self.network, {**self.headers, **ask}, inspect=self.inspect) as answer:
            if answer.status == 416:
                self.part.discard()
            check_status(answer)
            if answer.status == 206:
                note = check_continues(answer, note, self.part)
            else:
                note, start = Note(validator(answer), content_length(answer)), 0
            end = note.total or self.size or end_of(answer, start)
            self._check_total(note.total)
            self.bar.reset(note.total)
            self.bar.update(start)
            chunks = answer.chunks(self.retry)
            first = next(chunks, b"")  # before an earlier part is given up for it
            if not start:
                check_begins(first)
            with self.part.reopen() if start else self.part.begin(note) as file:
                got = start + self._copy(itertools.chain([first], chunks), file, start)
        if end is not None and got < end:
            raise SourceError(f"ended early, after {got:,} of {end:,} bytes", transient=True)
        return start > 0 or (end is None and not marks_end(answer))

    def _check_total(self, total: int | None) -> None:
        if self.size is not None and total is not None and total != self.size:
            raise SourceError(f"offers {total:,} bytes, but the file has {self.size:,}")
        if total is not None and total > MAX_BYTES:
            raise SourceError(f"offers {total:,} bytes, more than any weights file ({MAX_BYTES:,})")

    def _copy(self, chunks: Iterator[bytes], file: IO[bytes], start: int) -> int:
        limit = (self.size or MAX_BYTES) - start
        got = 0
        for data in chunks:
            got += len(data)
            if got > limit:
                self.part.discard()
                raise SourceError(f"sent more than the {limit:,} expected bytes")
            self._write(file, data)
            self.bar.update(len(data))
        return got

    def _write(self, file: IO[bytes], data: bytes) -> None:
        try:
            with disk_errors(self.part.path.parent):
                view = memoryview(data)
                while view:  # an unbuffered file may write less than it is given
                    view = view[file.write(view) :]
        except CacheError:
            self.part.discard()  # free the space on what may be a full disk
            raise
