"""Files to write, on a command line: argparse types that refuse what cannot be written, before any work."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

_PICTURES = (".png", ".jpg", ".jpeg", ".pdf", ".svg", ".webp")


def new_file(text: str) -> Path:
    """A file in an existing folder."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in an existing folder, got {text!r}")
    return path


def picture(text: str) -> Path:
    """A picture file in an existing folder."""
    path = new_file(text)
    if path.suffix.lower() not in _PICTURES:
        raise argparse.ArgumentTypeError(f"expected a file name that ends in {', '.join(_PICTURES)}, got {text!r}")
    if find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("pictures need matplotlib: pip install matplotlib")
    return path
