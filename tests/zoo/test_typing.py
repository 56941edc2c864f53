"""A user's script under mypy and basedpyright (pyright, from pip): each wrong call is refused, and no other."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

CALLS = Path(__file__).with_name("typed_calls.py")
CHECKERS = {
    "mypy": ("mypy", "--strict", "--config-file=", "--follow-imports=silent", "--ignore-missing-imports"),
    "basedpyright": ("basedpyright", "--level", "error", "--pythonpath", sys.executable),
}


@pytest.mark.parametrize("checker", [pytest.param("mypy", marks=pytest.mark.slow), "basedpyright"])
def test_right_calls_pass_and_wrong_ones_fail(checker: str) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    command = [sys.executable, "-m", *CHECKERS[checker], str(CALLS)]
    done = subprocess.run(command, cwd=CALLS.parents[2], capture_output=True, text=True, check=False)
    refused = {int(line) for line in re.findall(rf"{CALLS.name}:(\d+):.*error", done.stdout)}
    lines = CALLS.read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert len(wrong) >= 10
    assert refused == wrong, done.stdout + done.stderr
