"""The file made of a pickle: its bytes, its mode, and what is left when the process is killed."""

import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from fault_table import write
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from antialiased_zoo.errors import MalformedFileError, UnsafePickleError
from antialiased_zoo.evaluation import read_photo
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
def test_what_a_killed_conversion_leaves_is_removed_by_the_next(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "w.pth")
    code = f"""
import os, pathlib, signal, torch
from antialiased_zoo.weights import checkpoints
from antialiased_zoo.weights.checkpoints import loading
folder = pathlib.Path({str(tmp_path)!r})
loading.write_safetensors = lambda path, *_: (path.write_bytes(b"half"), os.kill(os.getpid(), signal.SIGKILL))
checkpoints.convert(folder / "w.pth", folder / "w.st", torch.nn.Linear(1, 1).state_dict(), source_sha256="")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    checkpoints.convert(tmp_path / "w.pth", tmp_path / "w.st", nn.Linear(1, 1).state_dict(), source_sha256="")
    assert {path.name for path in tmp_path.iterdir()} == {"w.pth", "w.st"}
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


def saved(state: object) -> dict[str, bytes]:
    """Return the members of a zip that torch writes."""
    file = io.BytesIO()
    torch.save(state, file)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: Iterable[tuple[str, bytes]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two members with one name
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("decoy", ["before", "same name", "other case", "prefix", "comment", "locator"])
def test_what_is_checked_is_what_torch_reads(decoy: str, tmp_path: Path) -> None:
    """A harmless member or directory, for a reader that looks elsewhere than torch's, hides no greedy one."""
    good = saved({"a": torch.ones(2)})
    (pickled,) = (name for name in good if name.endswith("/data.pkl"))
    greedy = {**good, pickled: pickle.dumps({"a": Greedy()}, 2)}
    root = pickled.partition("/")[0]
    if decoy == "before":
        content = zipped([(f"{root}/x.data.pkl", good[pickled]), *greedy.items()])
    elif decoy in ("same name", "other case"):
        name = pickled if decoy == "same name" else f"{root}/DATA.pkl"
        content = zipped([(name, good[pickled]), *greedy.items(), (name, good[pickled])])
    elif decoy == "comment":
        end = zipped(greedy.items())
        content = end[:-2] + len(end).to_bytes(2, "little") + end
    else:
        content = zipped(greedy.items()) + zipped(good.items())
        if decoy == "locator":  # to a directory that is not right before it
            content = content[:-22] + b"PK\6\7" + bytes(16) + content[-22:]
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises((UnsafePickleError, MalformedFileError), match=r"creates a bytearray|in two ways|Bad magic"):
        checkpoints.read_contents(tmp_path / "w.pth")


def test_threads_that_read_leave_the_warning_filters_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "new.pth")
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    before, seen, all_in = list(warnings.filters), [], threading.Barrier(4)

    def watched(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            all_in.wait(30)
            seen.append(list(warnings.filters))
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(torch, "load", watched(torch.load))
    monkeypatch.setattr(Image, "open", watched(Image.open))
    readers = [checkpoints.read_contents, checkpoints.read_contents, read_photo, read_photo]
    files = ["new.pth", "old.pth", "photo.png", "photo.png"]
    threads = [
        threading.Thread(target=read, args=(tmp_path / name,)) for read, name in zip(readers, files, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [before] * 4
    assert list(warnings.filters) == before
