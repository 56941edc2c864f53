"""The cache folder of verified files (torch hub's ``checkpoints``), and the operations on its files."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ...errors import CacheError, DigestError

STAMP = ".verified"


def folder() -> Path:
    """Return torch hub's ``checkpoints`` folder, without importing torch.

    Raises:
        CacheError: There is no home folder.
    """
    hub = sys.modules.get("torch.hub")
    if hub is not None:  # the only case in which torch.hub.set_dir() can have been called
        path = Path(hub.get_dir())
    else:
        # As torch does, also for an empty variable: the folder must not depend on whether torch is imported.
        home = os.environ.get("TORCH_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch"))
        path = Path(os.path.expanduser(home), "hub")
    if str(path).startswith("~"):
        raise CacheError(f"there is no home folder for the weights ({path}); set TORCH_HOME to a folder")
    return path / "checkpoints"


def make(path: Path) -> None:
    """Create the cache folder if it does not exist.

    Raises:
        CacheError: It cannot be created.
    """
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of the local disk into a project error that names the path and what to do.

    Raises:
        CacheError: Instead of any ``OSError`` inside the block.
    """
    try:
        yield
    except (CacheError, DigestError):
        raise
    except OSError as error:
        raise CacheError(
            f"cannot use {path}: {error.strerror or error}. Free space, allow writing, or set TORCH_HOME to "
            "another folder (files go to TORCH_HOME/hub/checkpoints)."
        ) from error


def exists(path: Path) -> bool:
    """True if there is something at a path.

    Raises:
        CacheError: The path cannot be reached.
    """
    with disk_errors(path):
        return path.exists()


def beside(path: Path, suffix: str) -> Path:
    """Return the path of one of this package's files next to a weights file."""
    return path.with_name(path.name + suffix)


def converted(path: Path) -> Path:
    """Return the path of the safetensors file that a pickle is converted to."""
    return beside(path, ".converted.safetensors")


def quarantine(path: Path) -> Path:
    """Rename a file that failed its check, and remove the file converted from it.

    Raises:
        CacheError: The folder does not allow it.
    """
    bad = beside(path, ".bad")
    with disk_errors(path.parent):
        os.replace(path, bad)
        for made in (converted(path), beside(converted(path), STAMP)):
            made.unlink(missing_ok=True)
    return bad
