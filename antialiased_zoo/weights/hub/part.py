"""Parts: incomplete downloads, with a note that lets another process resume them."""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import re
import shutil
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from ...errors import CacheError
from ..atomic_files import private_name
from ..regular import read_small, reopen
from .cache import disk_errors
from .redaction import source_key

_LARGEST_NOTE = 65536
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Note:
    """The version of the file of which a part has the beginning.

    Attributes:
        validator: The server's ``ETag`` or ``Last-Modified``, which tells whether the file has
            changed.
        total: Size of the whole file in bytes, if the server states it.
    """

    validator: str
    total: int | None


def remove_all(target: Path) -> None:
    """Remove the parts of a file, from all of its sources and of older versions, once the file is complete."""
    ours = re.compile(re.escape(target.name) + r"(\.[0-9a-f]{8})?\.part(\.json)?")
    for path in target.parent.glob(glob.escape(target.name) + ".*"):
        if ours.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()


class Part:
    """The bytes of an incomplete download from one address, in the target's folder, so that renaming never copies.

    Each address has a part of its own: no other source can remove it, or write into it.

    Args:
        target: The file to download.
        url: The address.
        private: Use a part that is private to this process, because others may be writing too.
    """

    def __init__(self, target: Path, url: str, *, private: bool = False) -> None:
        self.private = private
        self._name(target, url)
        if not private and not self._is_ours():
            _log.warning(
                "%s belongs to another user, or is a folder: it cannot be resumed or removed; continuing without it",
                self.path,
            )
            self.private = True
            self._name(target, url)

    def _name(self, target: Path, url: str) -> None:
        name = f"{target.name}.{source_key(url)[:8]}"  # a key, since the address may contain a password
        self.path = target.with_name(f"{name}{private_name() if self.private else ''}.part")
        self._note_path = self.path.with_name(self.path.name + ".json")

    def _is_ours(self) -> bool:
        """True if the part can be written to, after removing files that cannot."""
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
            state = self.path.lstat()
        except OSError:
            return 0
        return state.st_size if stat.S_ISREG(state.st_mode) else 0

    def note(self) -> Note | None:
        """Return the note if the part can be resumed, else ``None``."""
        try:
            facts = json.loads(read_small(self._note_path, _LARGEST_NOTE))
            note = Note(facts["validator"], facts["total"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        sound = isinstance(note.validator, str) and note.validator.isascii() and note.validator.isprintable()
        sound = sound and (note.total is None or type(note.total) is int)
        return note if sound and note.validator and self.size else None

    def begin(self, note: Note) -> IO[bytes]:
        """Empty the part, write its note, and open it.

        Raises:
            CacheError: The disk refuses, or has not enough space.
        """
        with disk_errors(self.path.parent):
            self.discard()
            free = shutil.disk_usage(self.path.parent).free
            if note.total is not None and note.total > free:
                raise CacheError(
                    f"{self.path.parent} has {free:,} bytes free, but {self.path.name} needs {note.total:,}. Free some "
                    "space, or set TORCH_HOME to a folder on a larger disk."
                )
            if note.validator:
                with self._note_path.open("xb") as file:
                    file.write(json.dumps(asdict(note)).encode())
            return self.path.open("xb", buffering=0)

    def reopen(self) -> IO[bytes]:
        """Open the part for appending.

        Raises:
            CacheError: The disk refuses.
        """
        with disk_errors(self.path.parent):
            return reopen(self.path, append=True)

    def discard(self) -> None:
        """Remove the part, if it was not renamed, and its note."""
        for path in (self.path, self._note_path):
            with contextlib.suppress(OSError):
                path.unlink()
