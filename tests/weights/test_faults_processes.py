"""Many processes, killed processes, Ctrl-C, memory and speed: what only shows from outside of one process."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fetch_rounds
import pytest
from fault_server import FaultServer
from fault_table import write
from fetching import part_of

from antialiased_zoo.weights import hub
from antialiased_zoo.weights.atomic_files import private_name
from antialiased_zoo.weights.hub import cache
from antialiased_zoo.weights.hub.retry import Retry
from antialiased_zoo.weights.weights_file import WeightsFile

NAME = "net.pth"
CONTENT = random.Random(2).randbytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
# The loader without torch, so that processes start at once.
LIGHT = """
from antialiased_zoo.weights import hub
from antialiased_zoo.weights.weights_file import WeightsFile
"""

ROWS: dict[str, tuple[str, ...]] = {}
SEEN = 8  # lines of the table

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultServer]:
    folder = tmp_path_factory.mktemp("served")
    (folder / NAME).write_bytes(CONTENT)
    with FaultServer(folder) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    write("Processes", ("situation", "outcome"), ROWS, SEEN)


def start(source: str, *, before: str = "", size: int | None = None) -> subprocess.Popen[str]:
    file = f"WeightsFile({NAME!r}, 'pickle', ({source!r},), {DIGEST!r}, size={size})"
    code = f"{LIGHT}{before}\nprint(hub.fetch({file}), flush=True)"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def names() -> set[str]:
    return {path.name for path in cache.folder().iterdir()}


def wait_for_part(source: str, least: int = 1) -> None:
    part = cache.folder() / part_of(source)
    until = time.monotonic() + 60
    while not part.exists() or part.stat().st_size < least:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_eight_processes_one_download(server: FaultServer) -> None:
    server.requests.clear()
    processes = [start(f"{server.url}/good/{NAME}") for _ in range(8)]
    results = [process.communicate(timeout=120) for process in processes]
    assert {output.strip() for output, _ in results} == {str(cache.folder() / NAME)}
    assert {errors for _, errors in results} == {""}
    assert len(server.requests) == 1
    assert names() == {NAME, f"{NAME}.verified"}
    ROWS["eight at once"] = (f"{len(server.requests)} download, {len(results)} right files, no lock left",)


@pytest.mark.parametrize("way", ["SIGKILL", "SIGINT"])
def test_stopped_halfway_the_next_goes_on(way: str, server: FaultServer) -> None:
    server.requests.clear()
    server.seen.clear()
    source = f"{server.url}/stalled_once/{NAME}"
    process = start(source)
    wait_for_part(source, len(CONTENT) // 2)
    process.send_signal(getattr(signal, way))
    process.communicate(timeout=60)
    assert process.returncode != 0
    left = {part_of(source), part_of(source, suffix=".part.json")}
    assert names() <= left | {f"{NAME}.lock"}
    assert way == "SIGKILL" or names() == left  # the kernel frees the lock, but leaves its file
    path = hub.fetch(WeightsFile(NAME, "pickle", (f"{server.url}/404/{NAME}", source), DIGEST), progress=False)
    assert path.read_bytes() == CONTENT
    assert server.requests[2].headers["Range"] == f"bytes={len(CONTENT) // 2}-"
    assert names() == {NAME, f"{NAME}.verified"}
    ROWS[f"{way} in mid-download"] = ("the next process goes on where it stopped; the right file",)


def test_killed_holder_of_the_lock_does_not_block(server: FaultServer) -> None:
    server.seen.clear()
    process = start(f"{server.url}/silent/{NAME}")
    until = time.monotonic() + 60
    while not cache.folder().is_dir() or f"{NAME}.lock" not in names():
        assert time.monotonic() < until
        time.sleep(0.01)
    waiting = start(f"{server.url}/good/{NAME}")
    time.sleep(0.5)
    process.kill()
    output, _ = waiting.communicate(timeout=60)
    process.communicate()
    assert Path(output.strip()).read_bytes() == CONTENT
    assert names() == {NAME, f"{NAME}.verified"}
    ROWS["the holder of the lock is killed"] = ("who waits takes over; the right file",)


def test_a_suspended_holder_of_the_lock_is_not_waited_for_for_ever(server: FaultServer) -> None:
    server.seen.clear()
    source = f"{server.url}/stalled/{NAME}"
    process = start(source)
    wait_for_part(source)
    process.send_signal(signal.SIGSTOP)
    try:
        wanted = WeightsFile(NAME, "pickle", (f"{server.url}/good/{NAME}",), DIGEST)
        assert hub.fetch(wanted, progress=False, retry=Retry(lock=0.3)).read_bytes() == CONTENT
    finally:
        process.kill()
        process.communicate()
    assert {NAME, f"{NAME}.verified"} <= names()
    assert not [name for name in names() if name.count("-") > 1]  # none under a private name
    ROWS["the holder of the lock is suspended"] = (
        "after a time others go on under names of their own; the right file",
    )


def test_without_any_locks_every_process_still_gets_the_file(server: FaultServer) -> None:
    # As on a network file system that has none.
    before = (
        "import filelock\n"
        "def acquire(*_, **__): raise NotImplementedError('flock')\n"
        "filelock.FileLock.acquire = acquire"
    )
    processes = [start(f"{server.url}/good/{NAME}", before=before) for _ in range(4)]
    results = [process.communicate(timeout=120) for process in processes]
    assert {output.strip() for output, _ in results} == {str(cache.folder() / NAME)}
    assert (cache.folder() / NAME).read_bytes() == CONTENT
    assert names() == {NAME, f"{NAME}.verified"}
    ROWS["a file system without locks"] = ("every process downloads; the right file",)


def test_what_killed_processes_left_is_swept(server: FaultServer) -> None:
    cache.make(cache.folder())
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    middle = private_name().replace(str(os.getpid()), str(dead.pid))
    (cache.folder() / f"{NAME}{middle}.part").touch()
    (cache.folder() / f"{NAME}.verified{middle}.tmp").touch()
    (cache.folder() / f"{NAME}{private_name()}.part").touch()  # of a process that lives: this one
    hub.fetch(WeightsFile(NAME, "pickle", (f"{server.url}/good/{NAME}",), DIGEST), progress=False)
    assert len(names()) == 3
    ROWS["temporary files of processes that died"] = ("swept by the next download",)


def test_a_full_disk_by_limit_of_file_size(server: FaultServer) -> None:
    before = (
        "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    )
    output, errors = start(f"{server.url}/good/{NAME}", before=before).communicate(timeout=60)
    assert output == ""
    assert "CacheError" in errors
    assert "File too large" in errors
    assert names() == set()
    ROWS["the disk refuses in mid-file"] = ("CacheError; nothing left",)


def test_rounds_of_faults_across_eight_processes() -> None:
    """A seeded sample; `python tests/fetch_rounds.py 200` runs them all."""
    counts = fetch_rounds.run(rounds=int(os.environ.get("FETCH_ROUNDS", "12")), seed=6)
    assert sum(counts.values()) == int(os.environ.get("FETCH_ROUNDS", "12"))
    assert counts.get("file", 0) > 0
