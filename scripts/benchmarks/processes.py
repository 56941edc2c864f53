"""Figures of a piece of code in a process of its own (Linux only, for its memory)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Literal

# Written before the part that is measured, after it, and what becomes of both.
_BEFORE = """
import json, time
def memory(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024
"""
_START = """
with open("/proc/self/clear_refs", "w") as refs:
    refs.write("5")  # forget the peak until here
before = memory("VmRSS")
start = time.perf_counter()
"""
_END = """
print(json.dumps({"time": (time.perf_counter() - start) * 1e3, "memory": memory("VmHWM") - before}))
"""


def in_process(
    setup: str, work: str, figure: Literal["time", "memory"], environment: Mapping[str, str] = os.environ
) -> float:
    """Milliseconds that ``work`` takes after ``setup``, or MiB that it needs at its peak beyond what was held."""
    return float(json.loads(_run("\n".join((_BEFORE, setup, _START, work, _END)), environment))[figure])


def whole_process(code: str, environment: Mapping[str, str] = os.environ) -> float:
    """Milliseconds from the start of a new process to its end."""
    start = time.perf_counter()
    _run(code, environment)
    return (time.perf_counter() - start) * 1e3


def _run(code: str, environment: Mapping[str, str]) -> str:
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1] if done.stdout else ""
