"""Files into models: the peer's checkpoints in the published form, and everything that is wrong with a file."""

import hashlib
import json
import pickle
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import antialiased_cnns
import pytest
import torch
import torchvision
from fault_server import FaultServer
from fault_table import write as write_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from antialiased_zoo import checkpoints, hub, manifest
from antialiased_zoo.checkpoints.names import match
from antialiased_zoo.errors import (
    CheckpointError,
    MalformedFileError,
    NonFiniteError,
    TensorMismatchError,
    UnsafePickleError,
)
from antialiased_zoo.hub import cache, stamps

# One small network per layout from server to model; vgg and alexnet, half a gigabyte each, by their names alone.
SMALL_NETWORKS = ("resnet18", "densenet121", "mobilenet_v2")
NETWORKS = (
    *("alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"),
    *("wide_resnet50_2", "wide_resnet101_2", "densenet121", "densenet161", "densenet169", "densenet201"),
    "mobilenet_v2",
)


def meta(name: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        return torchvision.models.get_model(name, **options)


def published(name: str) -> dict[str, Tensor]:
    """Return the peer's state dict with random tensors; DenseNet under its old names."""
    with torch.device("meta"):
        layout = getattr(antialiased_cnns, name)(filter_size=4).state_dict()
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, value in layout.items():
        old = re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key)
        real = value.dtype.is_floating_point
        state[old] = torch.rand(value.shape, generator=generator) if real else torch.tensor(7)
    return state


def in_order_of_use(model: nn.Module) -> list[str]:
    """Return the names of tensors in the order in which a forward pass uses them, whatever order they have."""
    used: list[str] = []

    def note(name: str, module: nn.Module) -> None:
        module.register_forward_pre_hook(lambda module, _: used.extend(f"{name}.{key}" for key in module.state_dict()))

    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):
            note(name, module)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, 224, 224, device="meta"))
    return used


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultServer]:
    with FaultServer(tmp_path_factory.mktemp("served")) as server:
        yield server


def entry_for(path: Path, server: FaultServer, model: str, **facts: object) -> manifest.Entry:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    record = {
        "model": model,
        "filter_size": 4,
        "recipe": "test",
        "file": f"{path.stem}-{digest[:8]}{path.suffix}",
        "format": "pickle",
        "sha256_prefix": digest[:8],
        "sources": [f"{server.url}/good/{path.name}"],
        "license": "MIT",
        "dataset": "none",
        "num_classes": 1000,
        "preprocessing": {},
        **facts,
    }
    licenses = {"MIT": {"url": "https://opensource.org/license/mit", "commercial_use": True}}
    return manifest.parse(json.dumps({"schema": 1, "licenses": licenses, "entries": [record]})).entries[0]


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_published_form_from_server_to_model(name: str, server: FaultServer) -> None:
    state = published(name)
    path = server.folder / f"{name}.pth"
    torch.save({"epoch": 90, "state_dict": state}, path, _use_new_zipfile_serialization=False)
    entry = entry_for(path, server, name)

    model = meta(name)
    used = checkpoints.load_entry(model, entry, progress=False)
    assert used == cache.converted(cache.folder() / entry.file)

    with torch.device("meta"):
        peer = in_order_of_use(getattr(antialiased_cnns, name)(filter_size=4))
    old = [re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key) for key in peer]
    ours = in_order_of_use(meta(name))
    assert set(ours) == set(model.state_dict())
    for key, other in zip(ours, old, strict=True):
        torch.testing.assert_close(model.state_dict()[key], state[other], rtol=0, atol=0)

    # Once more: nothing is downloaded or converted, the tensors are the same.
    requests = len(server.requests)
    before = used.stat()
    again = meta(name)
    assert checkpoints.load_entry(again, entry, progress=False) == used
    assert (len(server.requests), used.stat()) == (requests, before)
    for one, other in zip(again.state_dict().values(), model.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    path.unlink()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_published_layout_is_understood(name: str) -> None:
    with torch.device("meta"):
        peer = getattr(antialiased_cnns, name)(filter_size=3)
    found = {key: tuple(value.shape) for key, value in peer.state_dict().items()}
    model = meta(name)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    pairs = match(found, wanted)
    assert set(pairs) == set(wanted)
    # The reference: both networks use their tensors in the same order.
    assert pairs == dict(zip(in_order_of_use(model), in_order_of_use(peer), strict=True))


SMALL = {"0.weight": (4, 3, 3, 3), "0.bias": (4,), "3.weight": (4, 4, 3, 3), "3.bias": (4,), "fc.weight": (2, 4)}


# As a file sorted by text has them: ten before two.
SORTED_AS_TEXT = {k.replace("0.", "10.").replace("3.", "2."): v for k, v in SMALL.items()}


class TestNames:
    def test_prefix_filters_and_shifted_numbers(self) -> None:
        found = {f"module.{key.replace('3.', '4.')}": shape for key, shape in SMALL.items()}
        pairs = match({**found, "module.2.filt": (4, 1, 3, 3)}, SMALL)
        assert pairs["3.weight"] == "module.4.weight"

    @pytest.mark.parametrize(
        ("found", "reason"),
        [
            ({k: v for k, v in SMALL.items() if k != "3.bias"}, r"missing from the file: 3\.bias"),
            ({**SMALL, "5.weight": (1,)}, r"not in the model: 5\.weight"),
            ({**SMALL, "3.weight": (4, 4, 5, 5)}, r"'3\.weight' has shape \[4, 4, 5, 5\]"),
            ({k.replace("bias", "offset"): v for k, v in SMALL.items()}, r"'0\.offset' stands where"),
            ({f"layers.{k}": v for k, v in SMALL.items()}, r"'layers\.0\.weight' stands where"),
            (SORTED_AS_TEXT, "missing"),
            ({**SMALL, "0.num_batches_tracked": ()}, r"not in the model: 0\.num_batches_tracked"),
            ({"a.denselayer1.norm.1.bias": (1,), "a.denselayer1.norm1.bias": (1,)}, "mean the same"),
            ({}, "missing from the file"),
        ],
    )  # fmt: skip
    def test_never_silently(self, found: Mapping[str, tuple[int, ...]], reason: str) -> None:
        with pytest.raises(TensorMismatchError, match=reason):
            match(found, SMALL)

    def test_head_of_another_size(self) -> None:
        found = {**SMALL, "fc.weight": (1000, 4)}
        assert match(found, SMALL, omit=("fc.",))["3.bias"] == "3.bias"
        with pytest.raises(TensorMismatchError, match=r"fc\.weight"):
            match(found, SMALL)

    def test_batch_counters_may_be_missing_but_not_left_over(self) -> None:
        wanted = {"1.running_mean": (4,), "1.num_batches_tracked": ()}
        assert match({"2.running_mean": (4,)}, wanted) == {"1.running_mean": "2.running_mean"}


class TestModel:
    """What load_into does to a model; a small one, since none of it depends on the size."""

    def small(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        with torch.device("meta"):
            return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)).to(
                dtype
            )

    def state(self, **changes: Tensor) -> dict[str, Tensor]:
        torch.manual_seed(0)
        state = {k: torch.rand(v.shape) for k, v in self.small().state_dict().items() if v.dtype.is_floating_point}
        return {**state, "1.num_batches_tracked": torch.tensor(3), **changes}

    @pytest.mark.parametrize("kind", ["safetensors", "zip", "old"])
    def test_round_trip(self, kind: str, tmp_path: Path) -> None:
        state, path = self.state(), tmp_path / "weights"
        write(state, path, kind)
        model = self.small()
        parameters = list(model.parameters())
        checkpoints.load_into(model, path)
        assert {k: v.tolist() for k, v in model.state_dict().items()} == {k: v.tolist() for k, v in state.items()}
        assert all(p.requires_grad for p in model.parameters())
        assert len(parameters) == len(list(model.parameters()))
        model(torch.rand(2, 3, 3, 3)).sum().backward()

    @pytest.mark.parametrize("kind", ["safetensors", "zip", "old"])
    def test_training_does_not_write_to_the_file(self, kind: str, tmp_path: Path) -> None:
        path = tmp_path / "weights"
        write(self.state(), path, kind)
        before = path.read_bytes()
        model = self.small()
        checkpoints.load_into(model, path)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1)
        del model
        assert path.read_bytes() == before

    @pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
    def test_half_precision_file_takes_the_models_dtype(self, half: torch.dtype, tmp_path: Path) -> None:
        state = {k: v.to(half) if v.is_floating_point() else v for k, v in self.state().items()}
        save_file(state, tmp_path / "w.safetensors")
        for dtype in (torch.float32, half):
            model = self.small(dtype)
            checkpoints.load_into(model, tmp_path / "w.safetensors")
            assert model[0].weight.dtype == dtype
            torch.testing.assert_close(model[0].weight, state["0.weight"].to(dtype), rtol=0, atol=0)

    def test_omitted_head_stays_as_it_was(self, tmp_path: Path) -> None:
        state = {**self.state(), "4.weight": torch.rand(1000, 4), "4.bias": torch.rand(1000)}
        save_file(state, tmp_path / "w.safetensors")
        model = self.small()
        checkpoints.load_into(model, tmp_path / "w.safetensors", omit=("4.",))
        assert model[4].weight.is_meta
        assert not any(p.is_meta for p in model[0].parameters())

    def test_missing_counter_is_zero(self, tmp_path: Path) -> None:
        state = self.state()
        del state["1.num_batches_tracked"]
        save_file(state, tmp_path / "w.safetensors")
        model = self.small()
        checkpoints.load_into(model, tmp_path / "w.safetensors")
        assert model[1].num_batches_tracked.item() == 0

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    @pytest.mark.parametrize("kind", ["safetensors", "zip", "old"])
    def test_not_finite(self, value: float, kind: str, tmp_path: Path) -> None:
        state = self.state()
        state["1.running_var"][2] = value
        write(state, tmp_path / "weights", kind)
        with pytest.raises(NonFiniteError, match=r"weights: tensor '1\.running_var'"):
            checkpoints.load_into(self.small(), tmp_path / "weights")

    def test_nothing_is_changed_when_refused(self, tmp_path: Path) -> None:
        save_file(self.state(**{"4.bias": torch.rand(3)}), tmp_path / "w.safetensors")
        model = self.small()
        with pytest.raises(TensorMismatchError, match=r"'4\.bias' has shape \[3\]"):
            checkpoints.load_into(model, tmp_path / "w.safetensors")
        assert all(p.is_meta for p in model.parameters())

    @pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.complex64, torch.bool])
    def test_dtype_that_no_weight_has(self, dtype: torch.dtype, tmp_path: Path) -> None:
        save_file(self.state(**{"4.bias": torch.zeros(2, dtype=dtype)}), tmp_path / "w.safetensors")
        with pytest.raises(TensorMismatchError, match="dtype"):
            checkpoints.load_into(self.small(), tmp_path / "w.safetensors")


def write(state: dict[str, Tensor], path: Path, kind: str) -> None:
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")


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


def safetensors_bytes(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def tensor(start: int, stop: int, shape: tuple[int, ...] = (1, 1), dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


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


class TestConversion:
    @pytest.fixture
    def served(self, server: FaultServer) -> tuple[manifest.Entry, Path]:
        path = server.folder / "resnet18.pth"
        state = published("resnet18")
        torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=False)
        return entry_for(path, server, "resnet18"), path

    def test_a_damaged_conversion_is_made_anew(self, served: tuple[manifest.Entry, Path]) -> None:
        entry, _ = served
        first = meta("resnet18")
        made = checkpoints.load_entry(first, entry, progress=False)
        right = {name: value.clone() for name, value in first.state_dict().items()}
        with made.open("rb+") as file:
            file.seek(-100, 2)
            file.write(b"\x00" * 100)
        second = meta("resnet18")
        assert checkpoints.load_entry(second, entry, progress=False) == made
        for name, value in second.state_dict().items():
            torch.testing.assert_close(value, right[name], rtol=0, atol=0)

    def test_verify_covers_the_conversion(self, served: tuple[manifest.Entry, Path]) -> None:
        entry, _ = served
        made = checkpoints.load_entry(meta("resnet18"), entry, progress=False)
        assert [v.status for v in hub.verify([entry])] == ["ok", "ok"]
        stat = made.stat()
        with made.open("rb+") as file:
            file.seek(-4, 2)
            file.write(b"\x00\x00\x80\x3f")
        import os

        os.utime(made, ns=(stat.st_mtime_ns, stat.st_mtime_ns))  # the stamp still fits
        assert [v.status for v in hub.verify([entry])] == ["ok", "quarantined"]
        assert not made.exists()

    def test_of_another_pickle_is_not_used(self, served: tuple[manifest.Entry, Path]) -> None:
        entry, _ = served
        made = checkpoints.load_entry(meta("resnet18"), entry, progress=False)
        save_file({"fc.bias": torch.zeros(1)}, made, {"source_sha256": "0" * 64, "conversion": "1"})
        stamps.stamp(made, finite=True)
        model = meta("resnet18")
        checkpoints.load_entry(model, entry, progress=False)
        assert not any(p.is_meta for p in model.parameters())

    def test_where_nothing_can_be_written_the_pickle_itself_is_read(
        self, served: tuple[manifest.Entry, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        entry, _ = served
        path = hub.fetch(entry, progress=False)

        def refuse(*_: object, **__: object) -> None:
            raise cache.CacheError("read-only")

        monkeypatch.setattr(checkpoints, "convert", refuse)
        model = meta("resnet18")
        assert checkpoints.load_entry(model, entry, progress=False) == path
        assert not any(p.is_meta for p in model.parameters())

    def test_with_another_head_the_file_stays_whole(self, served: tuple[manifest.Entry, Path]) -> None:
        entry, _ = served
        checkpoints.load_entry(meta("resnet18", num_classes=10), entry, omit=("fc.",), progress=False)
        model = meta("resnet18")
        checkpoints.load_entry(model, entry, progress=False)
        assert model.fc.weight.shape == (1000, 512)

    def test_script(self, served: tuple[manifest.Entry, Path], tmp_path: Path) -> None:
        import runpy

        script = Path(__file__).parents[1] / "scripts" / "convert_checkpoint.py"
        runpy.run_path(str(script))["main"](["resnet18", str(served[1]), str(tmp_path / "out.safetensors")])
        model = meta("resnet18")
        checkpoints.load_into(model, tmp_path / "out.safetensors")
        torch.testing.assert_close(model.fc.bias.detach(), published("resnet18")["fc.bias"], rtol=0, atol=0)
        assert [p.name for p in tmp_path.iterdir()] == ["out.safetensors"]


def test_nan_in_a_head_that_was_once_left_out(server: FaultServer) -> None:
    """Leaving the head out must not count as having searched it."""
    state = {
        key: torch.zeros(value.shape, dtype=value.dtype) for key, value in meta("mobilenet_v2").state_dict().items()
    }
    state["classifier.1.bias"][3] = float("nan")
    save_file(state, server.folder / "nan.safetensors")
    entry = entry_for(server.folder / "nan.safetensors", server, "mobilenet_v2", format="safetensors")
    checkpoints.load_entry(meta("mobilenet_v2"), entry, omit=("classifier.",), progress=False)
    with pytest.raises(NonFiniteError, match=r"classifier\.1\.bias"):
        checkpoints.load_entry(meta("mobilenet_v2"), entry, progress=False)


class TestFullDisk:
    @pytest.fixture
    def small(self, tmp_path: Path) -> Iterator[Path]:
        folder = tmp_path / "small"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a file system needs root")
        yield folder
        subprocess.run(["umount", "-l", str(folder)], check=False)

    def test_conversion_without_room(self, small: Path) -> None:
        model = nn.Linear(200, 250)
        torch.save(model.state_dict(), small / "w.pth", _use_new_zipfile_serialization=False)
        # The temporary copy does not fit, so memory is used; then the new file does not fit either.
        with pytest.raises(cache.CacheError, match="No space left"):
            checkpoints.convert(small / "w.pth", small / "w.safetensors", model.state_dict(), source_sha256="")
        assert [path.name for path in small.iterdir()] == ["w.pth"]


class TestPublish:
    """scripts/publish.py, on a copy of the manifest."""

    @pytest.fixture
    def script(self) -> dict[str, object]:
        import runpy

        return runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "publish.py"))

    def facts(self) -> dict[str, object]:
        return {
            "model": "mobilenet_v2",
            "filter_size": 4,
            "recipe": "test",
            "dataset": "CIFAR-10",
            "num_classes": 2,
            "classes": ["a", "b"],
            "preprocessing": {"resize": 64, "crop": 64},
            "metrics": {"acc1": 90.0},
            "license": "MIT",
            "command": "python scripts/train.py",
            "loss": 0.1,
        }

    def weights(self, path: Path, classes: int = 2) -> Path:
        save_file(
            {
                k: torch.zeros(v.shape, dtype=v.dtype)
                for k, v in meta("mobilenet_v2", num_classes=classes).state_dict().items()
            },
            path,
        )
        return path

    def test_adds_a_checked_entry(self, script: dict, tmp_path: Path) -> None:
        listed = tmp_path / "m.json"
        listed.write_bytes(manifest.own_path().read_bytes())
        weights = self.weights(tmp_path / "net.safetensors")
        (tmp_path / "net.json").write_text(json.dumps({"entry": self.facts(), "seconds": 7}))
        script["main"]([str(weights), "--manifest", str(listed)])
        entry = manifest.load([listed]).find("mobilenet_v2", 4, "test")
        assert entry.files[0].sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
        assert entry.sources == ("package:net.safetensors",)
        assert entry.files[0].size == weights.stat().st_size
        assert len(manifest.load([listed])) == len(manifest.load([manifest.own_path()])) + 1
        with pytest.raises(SystemExit, match="same model"):
            script["main"]([str(weights), "--manifest", str(listed)])
        script["main"]([str(weights), "--manifest", str(listed), "--replace"])

    def test_refuses_the_record_of_another_file(self, script: dict, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="the record is about a file with 0000"):
            script["record_of"](self.weights(tmp_path / "net.safetensors"), {**self.facts(), "sha256": "0" * 64}, None)

    def test_refuses_weights_that_do_not_fit(self, script: dict, tmp_path: Path) -> None:
        listed = tmp_path / "m.json"
        listed.write_bytes(manifest.own_path().read_bytes())
        before = listed.read_bytes()
        with pytest.raises(CheckpointError):
            script["publish"](self.weights(tmp_path / "net.safetensors", classes=3), self.facts(), listed)
        assert listed.read_bytes() == before
        assert {p.name for p in tmp_path.iterdir()} == {"m.json", "net.safetensors"}


# Whatever a file holds, the reader answers with tensors or with one of its own errors.

QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def seeds() -> dict[str, bytes]:
    import io

    state = {"weight": torch.ones(1, 1), "bias": torch.ones(1)}
    new, old = io.BytesIO(), io.BytesIO()
    torch.save(state, new)
    torch.save({"state_dict": state}, old, _use_new_zipfile_serialization=False)
    header = {"weight": tensor(0, 4), "bias": tensor(4, 8, (1,))}
    return {"zip": new.getvalue(), "old": old.getvalue(), "safetensors": safetensors_bytes(header, bytes(8))}


SEEDS = seeds()


def read(content: bytes, folder: Path) -> None:
    path = folder / "fuzzed"
    path.write_bytes(content)
    model = nn.Linear(1, 1)
    refusal = ""
    try:
        checkpoints.load_into(model, path)
    except CheckpointError as error:
        refusal = str(error)
    assert refusal == "" or "fuzzed" in refusal
    assert model.weight.isfinite().all()
    assert model.weight.shape == (1, 1)


@QUIET
@given(st.binary(max_size=300))
def test_fuzz_any_bytes(tmp_path: Path, content: bytes) -> None:
    read(content, tmp_path)


@QUIET
@given(st.sampled_from(sorted(SEEDS)), st.data())
def test_fuzz_damaged_files(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    content = bytearray(SEEDS[kind])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert", "repeat"])):
            case "change":
                content[at] = data.draw(st.integers(0, 255))
            case "cut":
                del content[at : at + data.draw(st.integers(1, 40))]
            case "insert":
                content[at:at] = data.draw(st.binary(min_size=1, max_size=20))
            case "repeat":
                content[at:at] = content[at : at + 30]
        if not content:
            break
    read(bytes(content), tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@QUIET
@given(JSON)
def test_fuzz_safetensors_headers(tmp_path: Path, value: object) -> None:
    read(safetensors_bytes({"weight": value, "bias": tensor(4, 8, (1,))}, bytes(8)), tmp_path)


@QUIET
@given(
    st.sampled_from(
        ["model", "filter_size", "file", "sha256", "sources", "classes", "metrics", "also", "size", "structure"]
    ),
    JSON,
)
def test_fuzz_manifest_fields(field: str, value: object) -> None:
    from test_manifest import FACTS, text_of

    entries: tuple[manifest.Entry, ...] = ()
    refusal = "fuzzed"
    try:
        entries = manifest.parse(text_of({**FACTS, field: value}), "fuzzed").entries
    except manifest.ManifestError as error:
        refusal = str(error)
    assert "fuzzed" in refusal
    for file in (file for entry in entries for file in entry.files):
        assert (cache.folder() / file.file).parent == cache.folder()
        assert len(file.digest) >= 8


@QUIET
@given(JSON | st.text(max_size=200))
def test_fuzz_manifest_text(value: object) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    with pytest.raises(manifest.ManifestError, match="fuzzed"):
        manifest.parse(text, "fuzzed")
