"""A quarter of a gigabyte: what it costs in memory to download, verify, convert and load, and how fast hashing is."""

import functools
import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from forked import run_code
from manifests import text_of

from antialiased_zoo.weights.hub.digest import sha256

MIB = 2**20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# Fetches and loads it, watched by a thread that reads the kernel's account of this process; then again from the cache.
LOAD = """
import json, os, threading, time, torch, torchvision, tqdm, safetensors.torch, filelock
from antialiased_zoo.weights import checkpoints, manifest
entry = manifest.load([PATH]).entries[0]
with torch.device("meta"):
    model = torchvision.models.alexnet()
first = os.fork()  # each time in a fresh copy of this process
if first:
    assert os.waitpid(first, 0)[1] == 0

def memory():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return [int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "VmRSS")]

base, peak, stop = memory(), [0, 0], threading.Event()
def watch():
    while not stop.is_set():
        peak[:] = map(max, peak, memory())
        time.sleep(0.001)
watcher = threading.Thread(target=watch)
watcher.start()
begun = time.monotonic()
checkpoints.load_entry(model, entry, progress=False)
took = time.monotonic() - begun
total = sum(float(p.sum()) for p in model.parameters()) if not first else 0
stop.set()
watcher.join()
print(json.dumps({"anonymous": peak[0] - base[0], "resident": peak[1] - base[1], "seconds": took, "sum": total}))
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    # In memory where there is room, since the disk's speed is not the question.
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4096 * MIB
    folder = Path(tempfile.mkdtemp(dir=memory)) if roomy else tmp_path_factory.mktemp("large")
    yield folder
    shutil.rmtree(folder)


def write_checkpoint(path: Path) -> None:
    """AlexNet in the published form, 233 MiB, of which one tensor is 144."""
    with torch.device("meta"):
        layout = torchvision.models.alexnet().state_dict()
    state = {f"module.{name}": torch.full(value.shape, 0.5) for name, value in layout.items()}
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=False)


@pytest.fixture(scope="module")
def listed(folder: Path) -> Iterator[Path]:
    path = folder / "alexnet.pth"
    write_checkpoint(path)
    with path.open("rb", buffering=0) as file:
        digest = sha256(file)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    record = {
        "model": "alexnet",
        "filter_size": 4,
        "recipe": "test",
        "file": "alexnet.pth",
        "format": "pickle",
        "sha256_prefix": digest[:8],
        "sources": [f"http://127.0.0.1:{server.server_port}/alexnet.pth"],
        "license": "MIT",
        "dataset": "none",
        "num_classes": 1000,
        "preprocessing": {},
    }
    (folder / "m.json").write_text(text_of(record))
    yield folder / "m.json"
    server.shutdown()


def load_twice(listed: Path, folder: Path) -> list[dict[str, float]]:
    code = LOAD.replace("PATH", repr(str(listed)))
    done = run_code(code, folder, TORCH_HOME=str(listed.parent / "home"))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_memory_of_a_quarter_of_a_gigabyte(listed: Path, tmp_path: Path) -> None:
    size = (listed.parent / "alexnet.pth").stat().st_size
    assert size > 230 * MIB
    first, again = load_twice(listed, tmp_path)  # download, verify, convert, load; from the cache: mapped, not read
    print(f"first: {first}, again: {again}")
    assert first["sum"] == pytest.approx(61_100_840 * 0.5)
    assert first["anonymous"] < 64 * MIB
    assert first["resident"] < 64 * MIB + size
    assert again["anonymous"] < 16 * MIB
    assert again["resident"] < 32 * MIB


@pytest.mark.slow  # it times
@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="nothing to compare with")
def test_hashing_is_as_fast_as_sha256sum(folder: Path) -> None:
    path = folder / "zeros"
    with path.open("wb") as file:
        for _ in range(64):
            file.write(bytes(MIB))

    def ours() -> str:
        with path.open("rb", buffering=0) as file:
            return sha256(file)

    def theirs() -> str:
        return subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True).stdout.split()[0]

    def seconds(function: object) -> float:
        begun = time.monotonic()
        function()  # type: ignore[operator]
        return time.monotonic() - begun

    assert ours() == theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(5)]  # in turn, so that both see the same load
    fastest = [min(times) for times in zip(*pairs, strict=True)]
    print(f"{64 / fastest[0]:.0f} MiB/s, sha256sum {64 / fastest[1]:.0f} MiB/s")
    assert fastest[1] / fastest[0] >= 0.8
