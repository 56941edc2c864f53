"""Text files that people write: labels, class names, lists of models."""

from __future__ import annotations

from pathlib import Path


def read_text_file(path: Path) -> str:
    """Returns a file's text, whatever the machine's language, without the mark that some editors put before it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}): save it as UTF-8") from None
