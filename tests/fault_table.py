"""docs/faults.md: what came of every fault, written by the tests that saw it."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from filelock import FileLock

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "faults.md"
INTRODUCTION = """# What the loader does when things go wrong

Each line is what the loader or the command really did when a test attacked it with a server on
loopback, a damaged cache or a malicious file. After every fault of the network and the cache, the
tests check that the cache holds the right file or none, and nothing else but parts to resume from.
The tests write this page (`UPDATE_FAULTS=1 pytest tests/weights tests/cli`) and fail if it no
longer holds. [Weights](weights.md) explains how the loader works.
"""


def write(title: str, head: tuple[str, ...], rows: dict[str, tuple[str, ...]], expected: int) -> None:
    """Hold the document to one table, or write it there, if all of its lines were seen in this run."""
    if len(rows) != expected:
        return
    lines = [f"## {title}", "", _line(head), _line(tuple("---" for _ in head))]
    lines += [_line((name, *cells)) for name, cells in sorted(rows.items())]
    section = "\n".join(lines) + "\n"
    with FileLock(Path(tempfile.gettempdir(), "antialiased-zoo-faults.lock")):
        old = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else INTRODUCTION
        old = INTRODUCTION + old[old.index("\n## ") :] if "\n## " in old else INTRODUCTION
        parts = [part for part in re.split(r"\n(?=## )", old) if not part.startswith(f"## {title}\n")]
        first, *others = [part.strip("\n") + "\n" for part in parts]
        new = "\n".join([first, *sorted([*others, section])])
        if os.environ.get("UPDATE_FAULTS"):
            DOCUMENT.write_text(new, encoding="utf-8")
    assert new == DOCUMENT.read_text(encoding="utf-8"), f"{title}: docs/faults.md is out of date"


def plain(text: str) -> str:
    """Return an outcome without what differs from run to run and from system to system."""
    for pattern, instead in (
        (r"\b[0-9a-f]{64}\b", "..."),
        (r":\d{4,5}/", ":PORT/"),
        (r"HTTPS?Connection\(.*?\): |\[Errno -?\d+\] ", ""),
        (r"(TLS failed|Failed to resolve '\S+').*", r"\1"),
    ):
        text = re.sub(pattern, instead, text)
    return text


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
