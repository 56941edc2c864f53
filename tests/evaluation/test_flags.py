"""docs/flags.md lists every flag of the two scripts beside other projects', and no other."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAG = re.compile(r"(?<![\w-])--?[a-z][\w-]*")


def flags(text):
    """Return the flags in a text; ``--no-x`` is the same setting as ``--x``."""
    return {re.sub("^--no-", "--", flag) for flag in FLAG.findall(text)}


@pytest.mark.parametrize("name", ["evaluate", "train"])
def test_the_table_has_every_flag(name, capsys):
    with pytest.raises(SystemExit):
        importlib.import_module(name).parse(["--help"])
    shown = flags(capsys.readouterr().out.partition("positional arguments:")[2]) - {"-h", "--help"}
    section = (ROOT / "docs" / "flags.md").read_text().partition(f"## `scripts/{name}.py`\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert flags(" ".join(row.split("|")[1] for row in rows)) == shown
