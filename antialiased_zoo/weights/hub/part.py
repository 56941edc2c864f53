"""A download that is not complete yet, and the note from which another process can go on with it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from ...errors import CacheError
from ..regular import create, is_regular, read_small, reopen
from .cache import disk_errors, private_name

SUFFIX = ".part"
_LARGEST_NOTE = 65536
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Note:
    """Where a part comes from.

    Attributes:
        source: SHA-256 of its URL, which may hold a password.
        validator: The server's ``ETag`` or ``Last-Modified``, by which it knows that the file is
            unchanged.
        total: Bytes of the whole file, if the server said so.
    """

    source: str
    validator: str
    total: int | None

    @classmethod
    def of(cls, url: str, validator: str, total: int | None) -> Note:
        """Note a URL by its digest."""
        return cls(hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest(), validator, total)


class Part:
    """The bytes so far of one download, in a file beside the wanted one (so that renaming never copies).

    Args:
        target: The wanted file.
        private: Whether the part is this process's alone, because others may be writing too.
    """

    def __init__(self, target: Path, *, private: bool = False) -> None:
        self.private = private
        self._name(target)
        if not private and not self._is_ours():
            _log.warning(
                "%s is somebody else's, or a folder: it cannot be continued or removed; going on without it", self.path
            )
            self.private = True
            self._name(target)

    def _name(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}{private_name() if self.private else ''}{SUFFIX}")
        self._note_path = self.path.with_name(self.path.name + ".json")

    def _is_ours(self) -> bool:
        """Tell whether the part can be written to, once what cannot be is removed."""
        for path in (self.path, self._note_path):
            with contextlib.suppress(OSError):
                if path.is_symlink() or path.exists():
                    reopen(path, append=True).close()
                continue
            with contextlib.suppress(OSError):
                path.unlink()
                continue
            return False
        return True

    @property
    def size(self) -> int:
        """Bytes so far."""
        try:
            return self.path.lstat().st_size if is_regular(self.path) else 0
        except OSError:
            return 0

    def note(self, url: str) -> Note | None:
        """Return the note if the part came from ``url`` and can be continued, else ``None``."""
        try:
            facts = json.loads(read_small(self._note_path, _LARGEST_NOTE))
            note = Note(facts["source"], facts["validator"], facts["total"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        sound = isinstance(note.validator, str) and note.validator.isascii() and note.validator.isprintable()
        sound = sound and (note.total is None or type(note.total) is int)
        return (
            note
            if sound and note == Note.of(url, note.validator, note.total) and note.validator and self.size
            else None
        )

    def begin(self, note: Note) -> IO[bytes]:
        """Empty the part, note where the coming bytes are from, and open it.

        Raises:
            CacheError: The disk refuses, or has not enough room.
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
                with create(self._note_path) as file:
                    file.write(json.dumps(asdict(note)).encode())
            return create(self.path)

    def reopen(self) -> IO[bytes]:
        """Open the part to go on at its end.

        Raises:
            CacheError: The disk refuses.
        """
        with disk_errors(self.path.parent):
            return reopen(self.path, append=True)

    def discard(self) -> None:
        """Remove the bytes so far and the note."""
        for path in (self.path, self._note_path):
            with contextlib.suppress(OSError):
                path.unlink()

    def forget(self) -> None:
        """Remove the note alone: the bytes have been renamed to the wanted file."""
        with contextlib.suppress(OSError):
            self._note_path.unlink()
