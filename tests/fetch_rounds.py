"""Randomised rounds of faults across eight processes that race for the same files; a program and its parts.

    [FETCH_PROCESSES=16] python tests/fetch_rounds.py ROUNDS [SEED]

Every round draws a file, a list of faulty sources, a state of the cache (cold, warm, a wrong copy, a half download, a
stamp that lies) and which processes are killed on the way. After it, every process that lived must have the right file
or the one clear error, the cache must show the right file or none, and hold nothing else but parts.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from tqdm import tqdm

PROCESSES = int(os.environ.get("FETCH_PROCESSES", "8"))
# Faults after which a source has given the file, and faults after which it has not; none takes long.
HEALING = ("good", "busy", "reset_once", "short_once", "range_ignored", "range_refused", "changed", "changed_silently",
           "no_length", "chunked", "gzipped", "long", "stalled_once")  # fmt: skip
FAILING = ("403", "404", "501", "wrong", "truncated", "html", "longer", "loop", "reset_always", "bad_name")
SHARE_KILLED = 0.06


def work(inbox: Any, outbox: Any) -> None:
    """Fetch what is asked for, time and again, in one of the eight processes."""
    warnings.simplefilter("ignore")
    tqdm.set_lock(threading.RLock())  # its own is shared by processes, and outlives one that is killed
    from antialiased_zoo.errors import SourcesFailedError
    from antialiased_zoo.weights import hub
    from antialiased_zoo.weights.hub.retry import Retry
    from antialiased_zoo.weights.weights_file import WeightsFile

    haste = Retry(attempts=3, backoff=0.01, connect=5, read=0.5, window=5, lock=60)
    while (job := inbox.recv()) is not None:
        os.environ["TORCH_HOME"] = job["home"]
        try:
            path = hub.fetch(WeightsFile(**job["file"]), progress=False, retry=haste)
            outbox.send(("file", hashlib.sha256(path.read_bytes()).hexdigest()))
        except SourcesFailedError as error:
            outbox.send(("error", len(error.reasons)))
        except Exception as error:
            outbox.send(("unexpected", repr(error)))


class Worker:
    """One process, with its two pipes; started anew after it was killed."""

    def __init__(self) -> None:
        # Children of a server that has the imports done, and no threads: quick to start and safe to fork.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["fetch_rounds", "antialiased_zoo.weights.hub", "filelock", "tqdm"])
        inbox, self.jobs = context.Pipe(duplex=False)
        self.results, outbox = context.Pipe(duplex=False)
        self.process = context.Process(target=work, args=(inbox, outbox), daemon=True)
        self.process.start()

    def kill(self) -> None:
        """End it the way the kernel does, without any clearing up."""
        os.kill(self.process.pid or 0, signal.SIGKILL)
        self.process.join()

    def stop(self) -> None:
        """Let it end by itself."""
        with contextlib.suppress(OSError):
            self.jobs.send(None)
            self.process.join(10)


def prepare(folder: Path, name: str, content: bytes, state: str) -> None:
    """Put the cache into the state that a round begins with."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / name
    match state:
        case "warm":
            target.write_bytes(content)
        case "wrong":
            target.write_bytes(content[:-1] + b"?")
        case "part":
            target.with_name(name + ".part").write_bytes(content[:1000])
        case "lock":
            target.with_name(name + ".lock").touch()
        case "stamp":
            target.with_name(name + ".verified").write_text("{}")


def run_round(number: int, rng: random.Random, workers: list[Worker], url: str, served: Path, home: Path) -> str:
    """Run one round and return what came of it; raise AssertionError where it is not what must be."""
    name = f"net{number}.pth"
    content = rng.randbytes(rng.choice((0, 1, 1000, 70_000, 300_000)) + 8)
    (served / name).write_bytes(content)
    faults = [rng.choice(HEALING if rng.random() < 0.35 else FAILING) for _ in range(rng.randint(1, 4))]
    state = rng.choice(("cold", "cold", "cold", "warm", "wrong", "part", "lock", "stamp"))
    folder = home / "hub" / "checkpoints"
    prepare(folder, name, content, state)
    digest = hashlib.sha256(content).hexdigest()
    full = rng.random() < 0.5
    file = {"file": name, "format": "pickle", "sources": tuple(f"{url}/{fault}/{name}" for fault in faults)}
    file |= {"sha256": digest} if full else {"sha256_prefix": digest[:8]}
    for worker in workers:
        worker.jobs.send({"home": str(home), "file": file})
    killed = [i for i in range(len(workers)) if rng.random() < SHARE_KILLED]
    time.sleep(rng.random() * 0.2 if killed else 0)
    for i in killed:
        workers[i].kill()
    results = [worker.results.recv() for i, worker in enumerate(workers) if i not in killed]
    outcomes = {kind for kind, _ in results}
    what = f"round {number} ({state}, {'+'.join(faults)}, {len(killed)} killed): {results}"
    assert outcomes <= {"file", "error"}, what
    assert all(value == digest for kind, value in results if kind == "file"), what
    assert state != "warm" or outcomes <= {"file"}, what
    names = {path.name for path in folder.iterdir()}
    if name in names:
        assert (folder / name).read_bytes() == content, what
    elif results:
        assert "file" not in outcomes, what
    parts = {other for other in names if re.fullmatch(re.escape(name) + r"(\.[0-9a-f]{8})?\.part(\.json)?", other)}
    allowed = {name, f"{name}.verified", f"{name}.bad", *parts}
    if results:  # whoever lives clears up; where all were killed, the next one does
        assert names <= allowed, f"{what}: left {names - allowed}"
        assert not (name in names and parts), f"{what}: a part beside the whole"
    for i in killed:
        workers[i] = Worker()
    for path in folder.iterdir():
        path.unlink()
    return "+".join(sorted(outcomes)) or "all killed"


def run(rounds: int, seed: int) -> dict[str, int]:
    """Run that many rounds; return how many ended how."""
    from fault_server import FaultServer

    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        served = Path(scratch, "served")
        served.mkdir()
        with FaultServer(served) as server:
            workers = [Worker() for _ in range(PROCESSES)]
            try:
                for number in range(rounds):
                    rng = random.Random(f"{seed}/{number}")
                    outcome = run_round(number, rng, workers, server.url, served, Path(scratch, "home"))
                    counts[outcome] = counts.get(outcome, 0) + 1
            finally:
                for worker in workers:
                    worker.stop()
    return counts


if __name__ == "__main__":
    begun = time.monotonic()
    print(run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0), f"{time.monotonic() - begun:.0f} s")
