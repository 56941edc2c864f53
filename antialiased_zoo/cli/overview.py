"""The help of ``antialiased-zoo``: the commands in groups, and examples."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from .output import NAME, coloured

GROUPS = {
    "Weights": ("list", "info", "download", "verify", "doctor"),
    "See what antialiasing does": ("demo", "predict", "compare"),
    "Your own networks": ("plan", "adapt", "export"),
}
EXAMPLES = (
    ("demo", "a picture; no download"),
    ("list resnet50", "one network's weights"),
    ("predict cat.jpg", "with a packaged network"),
    ("compare efficientnet_lite0:baseline efficientnet_lite0 cat.jpg", ""),
    ("plan mymodels:build --input 224", "where blurs go, and the cost"),
)
_WIDTH = 80


class Parser(argparse.ArgumentParser):
    """The parser of the whole command, with its own help.

    Attributes:
        commands: The subparsers, to which commands are added.
    """

    def __init__(self, version: str) -> None:
        super().__init__(NAME, description="Shift-invariant convolutional networks: weights, predictions, a demo.")
        self.add_argument("--version", action="version", version=version)
        self.commands = self.add_subparsers(metavar="COMMAND", required=True, parser_class=argparse.ArgumentParser)

    def format_help(self) -> str:
        """Return the groups of commands, and examples, in 80 columns."""
        known: dict[str, Any] = dict(self.commands.choices)
        rest = [name for name in known if not any(name in names for names in GROUPS.values())]
        lines = [f"{NAME} COMMAND ...", str(self.description), ""]
        for title, names in {**GROUPS, "More": tuple(rest)}.items():
            present = [name for name in names if name in known]
            rows = [_entry(name, known[name].description) for name in present]
            lines += [coloured(title, "bold"), *rows, ""] if rows else []
        lines += [coloured("Examples", "bold"), *(_example(*example) for example in EXAMPLES), ""]
        lines += [f"{NAME} COMMAND --help shows the options, --version the version.", ""]
        return "\n".join(lines)


def _entry(name: str, text: str) -> str:
    first, indent = f"  {name:10}", " " * 12
    return textwrap.fill(text, _WIDTH - 1, initial_indent=first, subsequent_indent=indent)


def _example(words: str, text: str) -> str:
    return f"  {NAME} {words:33}{text}".rstrip()
