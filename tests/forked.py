"""Processes forked from one that has imported torch and torchvision, which takes seconds: fresh in all else."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import torch.multiprocessing

multiprocessing.set_forkserver_preload(["torch", "torchvision"])


def run_two(function: Callable[..., None], *arguments: object) -> None:
    """Call ``function(rank, *arguments)`` in a process for each rank; an error in either is raised here."""
    torch.multiprocessing.start_processes(function, arguments, nprocs=2, start_method="forkserver")


def of_two(rank: int, port: int) -> dict[str, str]:
    """What torchrun puts into the environment of each of two processes."""
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    return {**place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def free_port() -> int:
    """A port that no process listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run_code(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code with this process's environment and more; return its exit status and what it printed."""
    process = start_code(code, folder, **environment)
    process.join()
    printed = [(folder / name).read_text() for name in ("stdout.txt", "stderr.txt")]
    return subprocess.CompletedProcess([], process.exitcode or 0, *printed)


def of_script(path: Path, *arguments: str) -> str:
    """Code that runs a script as Python does."""
    argv = [str(path), *arguments]
    return f"import runpy, sys; sys.argv = {argv}; runpy.run_path(sys.argv[0], run_name='__main__')"


def start_code(code: str, folder: Path, **environment: str) -> multiprocessing.process.BaseProcess:
    """Start code in a process that writes what it prints to stdout.txt and stderr.txt in the folder."""
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_run, args=(code, folder, {**os.environ, **environment}))
    process.start()
    return process


def _run(code: str, folder: Path, environment: Mapping[str, str]) -> None:
    os.environ.clear()  # the server's own, of when it started
    os.environ.update(environment)
    for number, name in ((1, "stdout.txt"), (2, "stderr.txt")):
        with (folder / name).open("w") as file:
            os.dup2(file.fileno(), number)
    exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
