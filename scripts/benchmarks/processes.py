"""Work in a process of its own: what ran before leaves memory in hand, and that is half of what is measured here."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Literal, TypeVar

_Result = TypeVar("_Result")

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


def apart(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """The function's result, called in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def in_process(
    setup: str, work: str, figure: Literal["time", "memory"], environment: Mapping[str, str] = os.environ
) -> float:
    """Milliseconds that ``work`` takes after ``setup``, or MiB that it needs beyond what was held (on Linux)."""
    return float(json.loads(_run("\n".join((_BEFORE, setup, _START, work, _END)), environment))[figure])


def whole_process(code: str, environment: Mapping[str, str] = os.environ) -> float:
    """Milliseconds from the start of a new process until the code is done; taking the process down is not counted."""
    start = time.perf_counter()
    _run(f"{code}\nimport os\nos._exit(0)", environment)
    return (time.perf_counter() - start) * 1e3


def _run(code: str, environment: Mapping[str, str]) -> str:
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1] if done.stdout else ""
