"""Measurements in separate processes: earlier work leaves freed memory behind, which changes time and memory."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Literal

Run = Callable[..., float]

# Code before the setup, before the measured part, and after it.
_BEFORE = """
import json, time
def memory(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024
"""
_START = """
with open("/proc/self/clear_refs", "w") as refs:
    refs.write("5")  # reset the peak
before = memory("VmRSS")
start = time.perf_counter()
"""
_END = """
print(json.dumps({"time": (time.perf_counter() - start) * 1e3, "memory": memory("VmHWM") - before}))
"""


@contextmanager
def each_apart(makers: Mapping[str, Callable[[], Run | None]]) -> Iterator[dict[str, Run]]:
    """Make and call each function in a separate process; those whose maker returns None are left out.

    All wait while one is called, so they do not affect each other's allocators and caches.
    """
    context = multiprocessing.get_context("spawn")
    ends: dict[str, Connection] = {}
    for name, make in makers.items():
        ends[name], theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, make), daemon=True).start()
        theirs.close()
    usable = [name for name, end in ends.items() if end.recv()]
    try:
        yield {name: partial(_call, ends[name]) for name in usable}
    finally:
        for end in ends.values():
            end.close()


def _serve(end: Connection, make: Callable[[], Run | None]) -> None:
    run = make()
    end.send(run is not None)
    with contextlib.suppress(EOFError):
        while run is not None:
            end.send(run(*end.recv()))


def _call(end: Connection, *arguments: Any) -> float:
    end.send(arguments)
    return float(end.recv())


@contextmanager
def together(makers: Mapping[str, Callable[[], Run | None]]) -> Iterator[dict[str, Run]]:
    """Like `each_apart`, but all in this process."""
    made = {name: make() for name, make in makers.items()}
    yield {name: run for name, run in made.items() if run is not None}


def in_process(
    setup: str, work: str, figure: Literal["time", "memory"], environment: Mapping[str, str] = os.environ
) -> float:
    """Milliseconds that ``work`` takes after ``setup``, or MiB that it needs beyond those before (on Linux)."""
    return float(json.loads(_run("\n".join((_BEFORE, setup, _START, work, _END)), environment))[figure])


def whole_process(code: str, environment: Mapping[str, str] = os.environ) -> float:
    """Milliseconds from the start of a new process until the code is done, without its shutdown."""
    start = time.perf_counter()
    _run(f"{code}\nimport os\nos._exit(0)", environment)
    return (time.perf_counter() - start) * 1e3


def _run(code: str, environment: Mapping[str, str]) -> str:
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1] if done.stdout else ""
