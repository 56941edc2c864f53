"""A download that is not complete yet, and the note from which another process can go on with it."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from ...errors import CacheError
from .cache import disk_errors

SUFFIX = ".part"


@dataclass(frozen=True)
class Note:
    """Where a part comes from.

    Attributes:
        url: its source.
        validator: the server's ``ETag`` or ``Last-Modified``, by which it knows that the file is unchanged.
        total: bytes of the whole file, if the server said so.
    """

    url: str
    validator: str
    total: int | None


class Part:
    """The bytes so far of one download, in a file beside the wanted one (so that renaming never copies)."""

    def __init__(self, target: Path, name: str = "") -> None:
        self.path = target.with_name(f"{target.name}{name}{SUFFIX}")
        self._note_path = self.path.with_name(self.path.name + ".json")

    @property
    def size(self) -> int:
        """Bytes so far."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def note(self, url: str) -> Note | None:
        """Return the note if the part came from ``url`` and can be continued, else ``None``."""
        try:
            facts = json.loads(self._note_path.read_bytes())
            note = Note(facts["url"], facts["validator"], facts["total"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        sound = isinstance(note.validator, str) and note.validator.isascii() and note.validator.isprintable()
        sound = sound and (note.total is None or type(note.total) is int)
        return note if sound and note.validator and note.url == url and self.size else None

    def begin(self, note: Note) -> IO[bytes]:
        """Empty the part, note where the coming bytes are from, and open it.

        Raises:
            CacheError: the disk refuses, or has not enough room.
        """
        with disk_errors(self.path.parent):
            self.discard()
            free = shutil.disk_usage(self.path.parent).free
            if note.total is not None and note.total > free:
                raise CacheError(
                    f"{self.path.parent} has {free:,} bytes free, {self.path.name} needs {note.total:,}. Free some "
                    "space or set TORCH_HOME to a folder on a larger disk."
                )
            if note.validator:
                self._note_path.write_text(json.dumps(asdict(note)), encoding="utf-8")
            return self.path.open("wb", buffering=0)

    def reopen(self) -> IO[bytes]:
        """Open the part to go on at its end.

        Raises:
            CacheError: the disk refuses.
        """
        with disk_errors(self.path.parent):
            return self.path.open("ab", buffering=0)

    def discard(self) -> None:
        """Remove the bytes so far and the note."""
        for path in (self.path, self._note_path):
            with contextlib.suppress(OSError):
                path.unlink()

    def forget(self) -> None:
        """Remove the note alone: the bytes have been renamed to the wanted file."""
        with contextlib.suppress(OSError):
            self._note_path.unlink()
