"""What the command says: text that any terminal can show, one line for each warning."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from ..weights import Entry

NAME = "antialiased-zoo"


def say(text: str, stream: TextIO | None = None) -> None:
    """Print text; characters that the stream cannot spell are escaped instead of ending the command."""
    stream = stream or sys.stdout
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def complain(message: object) -> None:
    """Print one message to the standard error."""
    say(f"{NAME}: {message}", sys.stderr)


def say_json(value: Any, *, indent: int | None = 1) -> None:
    """Print JSON, in ASCII."""
    say(json.dumps(value, indent=indent))


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Show warnings without a line of code, which means nothing here; afterwards all is as it was."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: complain(message)
        yield


def spec_of(entry: Entry) -> str:
    """Return the words by which the command knows an entry, such as ``resnet50:lpf4:finetuned``."""
    size = "baseline" if entry.filter_size is None else f"lpf{entry.filter_size}"
    return f"{entry.model}:{size}:{entry.recipe}"
