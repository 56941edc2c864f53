"""The file made of a pickle: its bytes, its mode, and what is left when the process is killed."""

import os
import pickle
import signal
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fault_table import write
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from antialiased_zoo.errors import UnsafePickleError
from antialiased_zoo.weights import checkpoints

ROWS: dict[str, tuple[str, ...]] = {}


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    write("Pickles and what is made of them", ("situation", "outcome"), ROWS, 9)


DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]


def test_safetensors_itself_reads_the_same_tensors(tmp_path: Path) -> None:
    state = {f"t{i}": torch.arange(6).reshape(2, 3).to(dtype) for i, dtype in enumerate(DTYPES)}
    state |= {"scalar": torch.tensor(7), "empty": torch.zeros(0, 3), "turned": torch.rand(3, 4).T}
    torch.save(state, tmp_path / "w.pth")
    checkpoints.convert(tmp_path / "w.pth", tmp_path / "w.st", state, source_sha256="ab" * 32)
    found = load_file(tmp_path / "w.st")
    assert set(found) == set(state)
    assert all(torch.equal(found[name], state[name]) and found[name].dtype == state[name].dtype for name in state)
    with safe_open(tmp_path / "w.st", framework="pt") as file:
        assert file.metadata()["source_sha256"] == "ab" * 32
    assert int.from_bytes((tmp_path / "w.st").read_bytes()[:8], "little") % 8 == 0  # tensors are aligned


@pytest.mark.skipif(os.name != "posix", reason="modes")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600), (0, 0o666)])
def test_its_mode_is_the_umasks(umask: int, mode: int, tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "w.pth")
    before = os.umask(umask)
    try:
        state = nn.Linear(1, 1).state_dict()
        checkpoints.convert(tmp_path / "w.pth", tmp_path / "w.st", state, source_sha256="ab" * 32)
    finally:
        os.umask(before)
    assert (tmp_path / "w.st").stat().st_mode & 0o777 == mode
    ROWS[f"conversion under the umask {umask:03o}"] = (f"a file of mode {mode:04o}",)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_what_a_killed_conversion_leaves_can_be_swept(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "w.pth")
    code = f"""
import os, pathlib, signal, torch
from antialiased_zoo.weights import checkpoints
from antialiased_zoo.weights.checkpoints import loading
folder = pathlib.Path({str(tmp_path)!r})
loading._write_safetensors = lambda file, *_: (file.write(b"half"), os.kill(os.getpid(), signal.SIGKILL))
checkpoints.convert(folder / "w.pth", folder / "w.st", torch.nn.Linear(1, 1).state_dict(), source_sha256="")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    from antialiased_zoo.weights.hub import cache

    cache.sweep(tmp_path / "w.st")
    assert [path.name for path in tmp_path.iterdir()] == ["w.pth"]
    ROWS["SIGKILL in mid-conversion"] = ("a temporary file, which the next conversion removes",)


def test_verify_compares_it_with_its_pickle(tmp_path: Path) -> None:
    from antialiased_zoo.weights import hub
    from antialiased_zoo.weights.hub import cache, stamps
    from antialiased_zoo.weights.weights_file import WeightsFile

    cache.make(cache.folder())
    path, made = cache.folder() / "net.pth", cache.converted(cache.folder() / "net.pth")
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    state = {name: tensor for name, tensor in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, path)  # as published: without counters, which conversion adds
    digest = stamps.sha256(path.open("rb", buffering=0))
    file = WeightsFile("net.pth", "pickle", ("https://x.invalid/x",), digest)

    def statuses() -> list[str]:
        return [verdict.status for verdict in hub.verify([file], checkpoints.holds_same)]

    checkpoints.convert(path, made, net.state_dict(), source_sha256=digest)
    stamps.stamp(made, finite=True)
    assert statuses() == ["ok", "ok"]
    # Another file with a stamp that fits it: its own digest does not tell.
    torch.save({name: tensor + 1 for name, tensor in state.items()}, tmp_path / "other.pth")
    checkpoints.convert(tmp_path / "other.pth", made, net.state_dict(), source_sha256=digest)
    stamps.stamp(made, finite=True)
    assert [verdict.status for verdict in hub.verify([file])] == ["ok", "ok"]
    assert statuses() == ["ok", "quarantined"]
    assert not made.exists()
    ROWS["other tensors in a converted file, under a stamp that fits"] = ("`verify` moves it away",)


class Greedy:
    def __reduce__(self) -> object:
        return bytearray, (8 << 30,)


@pytest.mark.parametrize("kind", ["zip", "old", "bare"])
def test_memory_that_the_file_does_not_hold_is_not_taken(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    if kind == "bare":
        path.write_bytes(pickle.dumps({"state_dict": Greedy()}, 2))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("w/data.pkl", pickle.dumps({"state_dict": Greedy()}, 2))
            archive.writestr("w/version", "3")
    else:
        torch.save({"state_dict": Greedy()}, path, _use_new_zipfile_serialization=False)
    tracemalloc.start()
    try:
        with pytest.raises(UnsafePickleError, match="bytearray") as caught:
            checkpoints.load_into(nn.Linear(1, 1), path)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
        what = str(caught.value).replace(str(path), path.name)
        ROWS[f"a pickle ({kind}) that takes 8 GiB"] = (f"UnsafePickleError, before any is taken: {what}",)
    finally:
        tracemalloc.stop()
