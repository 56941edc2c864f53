"""Output of the commands: text that every terminal can print, and warnings in one line."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

NAME = "antialiased-zoo"


def say(text: str) -> None:
    """Print text; characters that the terminal cannot encode are escaped."""
    _print(text, sys.stdout)


def _print(text: str, stream: TextIO) -> None:
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


_CODES = {"bold": 1, "red": 31, "green": 32, "yellow": 33}


def coloured(text: str, colour: str) -> str:
    """Return text in a colour on a terminal; unchanged for files and pipes, and if ``NO_COLOR`` is set."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or sys.platform == "win32"
    if plain or not text.strip() or not sys.stdout.isatty():
        return text
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def complain(message: object) -> None:
    """Print one message to standard error."""
    _print(f"{NAME}: {message}", sys.stderr)


def say_json(value: Any, *, indent: int | None = 1) -> None:
    """Print JSON, in ASCII."""
    say(json.dumps(value, indent=indent))


@contextlib.contextmanager
def modules_of_this_folder() -> Iterator[None]:
    """Let ``MODULE:CALLABLE`` name a module in the current folder, which an installed command does not search.

    The folder comes last in the search path, so that it cannot shadow an installed module.
    """
    sys.path.append("")
    try:
        yield
    finally:
        sys.path.remove("")


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Show warnings without their line of code inside the block."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: complain(message)
        yield
