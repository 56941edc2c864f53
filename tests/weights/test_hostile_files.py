"""Files made to harm: pickles that run code, and safetensors whose headers lie."""

import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from checkpoint_files import safetensors_bytes, tensor
from fault_table import write as write_table
from torch import nn

from antialiased_zoo.errors import CheckpointError, MalformedFileError, TensorMismatchError, UnsafePickleError
from antialiased_zoo.weights import checkpoints


class Harm:
    """Touches a file when unpickled: the mark of code that ran."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return Path.touch, (self.mark,)


class TestMaliciousPickles:
    @pytest.mark.parametrize("kind", ["zip", "old", "plain"])
    def test_code_is_not_run(self, kind: str, tmp_path: Path) -> None:
        content = {"state_dict": {"0.weight": torch.zeros(1), "evil": Harm(tmp_path / "mark")}}
        if kind == "plain":
            (tmp_path / "w.pth").write_bytes(pickle.dumps(content["state_dict"]["evil"]))
        else:
            torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=kind == "zip")
        with pytest.raises(UnsafePickleError if kind != "plain" else CheckpointError):
            checkpoints.load_into(nn.Linear(1, 1), tmp_path / "w.pth")
        assert not (tmp_path / "mark").exists()
        pickle.loads(pickle.dumps(Harm(tmp_path / "mark")))
        assert (tmp_path / "mark").exists()  # so it would have been seen

    def test_eval(self, tmp_path: Path) -> None:
        mark = tmp_path / "mark"
        code = f"cbuiltins\neval\n(V__import__('pathlib').Path({str(mark)!r}).touch()\ntR.".encode()
        with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
            archive.writestr("w/data.pkl", code)
            archive.writestr("w/version", "3")
        with pytest.raises(CheckpointError):
            checkpoints.load_into(nn.Linear(1, 1), tmp_path / "w.pth")
        assert not mark.exists()

    def test_compressed_bomb(self, tmp_path: Path) -> None:
        torch.save({"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}, tmp_path / "small.pth")
        with (
            zipfile.ZipFile(tmp_path / "small.pth") as source,
            zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
        ):
            for member in source.infolist():
                content = bytes(50_000_000) if member.filename.endswith("data/0") else source.read(member)
                bomb.writestr(member.filename, content)
        with pytest.raises(MalformedFileError, match="compressed"):
            checkpoints.load_into(nn.Linear(1, 1), tmp_path / "bomb.pth")

    def test_old_file_that_claims_terabytes(self, tmp_path: Path) -> None:
        torch.save(
            {"weight": torch.zeros(1, 1), "bias": torch.zeros(77)},
            tmp_path / "w.pth",
            _use_new_zipfile_serialization=False,
        )
        content = (tmp_path / "w.pth").read_bytes()
        # The storage's number of elements is a one-byte integer in the pickle; make it 2**40.
        assert content.count(b"K\x4d") >= 1
        (tmp_path / "w.pth").write_bytes(content.replace(b"K\x4d", b"\x8a\x06" + (1 << 40).to_bytes(6, "little")))
        with pytest.raises(MalformedFileError):
            checkpoints.load_into(nn.Linear(1, 1), tmp_path / "w.pth")

    def test_a_huge_view_of_a_small_storage(self, tmp_path: Path) -> None:
        torch.save({"weight": torch.zeros(1).expand(1 << 40, 1), "bias": torch.zeros(1)}, tmp_path / "w.pth")
        with pytest.raises(TensorMismatchError, match="1099511627776"):
            checkpoints.load_into(nn.Linear(1, 1), tmp_path / "w.pth")

    @pytest.mark.parametrize(
        "content",
        [[1, 2], {}, {"state_dict": {}}, {"weight": 1}, {1: torch.zeros(1)}, torch.zeros(3),
         {"weight": torch.zeros(1, 1).to_sparse()}, {"weight": torch.zeros(1, device="meta")}],
    )  # fmt: skip
    def test_no_state_dict(self, content: object, tmp_path: Path) -> None:
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(MalformedFileError):
            checkpoints.load_into(nn.Linear(1, 1), tmp_path / "w.pth")


HOSTILE = {
    "header longer than the file": safetensors_bytes({}, length=10**6),
    "header of exabytes": safetensors_bytes({}, length=2**63),
    "header is no JSON": safetensors_bytes(b"{weight"),
    "header is deep": safetensors_bytes(b'{"a":' * 50_000),
    "tensor is no object": safetensors_bytes({"weight": 3}),
    "unknown dtype": safetensors_bytes({"weight": tensor(0, 4, dtype="F31")}, bytes(4)),
    "shape larger than its data": safetensors_bytes({"weight": tensor(0, 4, (1 << 40, 1))}, bytes(4)),
    "shape overflows": safetensors_bytes({"weight": tensor(0, 4, (2**62, 2**62))}, bytes(4)),
    "negative shape": safetensors_bytes({"weight": tensor(0, 4, (-1, -1))}, bytes(4)),
    "offsets past the end": safetensors_bytes({"weight": tensor(0, 400, (100, 1))}, bytes(4)),
    "offsets reversed": safetensors_bytes({"weight": tensor(4, 0)}, bytes(4)),
    "overlap": safetensors_bytes({"weight": tensor(0, 4), "bias": tensor(0, 4, (1,))}, bytes(4)),
    "hole": safetensors_bytes({"weight": tensor(0, 4), "bias": tensor(8, 12, (1,))}, bytes(12)),
    "bytes left over": safetensors_bytes({"weight": tensor(0, 4), "bias": tensor(4, 8, (1,))}, bytes(80)),
    "truncated": safetensors_bytes({"weight": tensor(0, 4), "bias": tensor(4, 8, (1,))}, bytes(7)),
}


ROWS: dict[str, tuple[str, ...]] = {}


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    write_table("Safetensors", ("what the file does", "outcome"), ROWS, len(HOSTILE))


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_safetensors(case: str, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(HOSTILE[case])
    with pytest.raises(MalformedFileError, match=r"w\.safetensors") as caught:
        checkpoints.load_into(nn.Linear(1, 1), tmp_path / "w.safetensors")
    ROWS[case] = (type(caught.value).__name__,)


def test_sound_safetensors_by_hand(tmp_path: Path) -> None:
    header = {"weight": tensor(0, 4), "bias": tensor(4, 8, (1,))}
    (tmp_path / "w.safetensors").write_bytes(safetensors_bytes(header, bytes(8)))
    checkpoints.load_into(nn.Linear(1, 1), tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [b"", b"\x00", b"hello world, no weights", b"PK\x03\x04", b"\x80\x02", b"<html>"])
def test_no_weights_at_all(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(MalformedFileError, match="w"):
        checkpoints.load_into(nn.Linear(1, 1), tmp_path / "w")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pth"):
        checkpoints.load_into(nn.Linear(1, 1), tmp_path / "nowhere.pth")
