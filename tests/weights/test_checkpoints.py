"""Files into models: the peer's checkpoints in the published form, and what loading does to a model."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import antialiased_cnns
import pytest
import torch
from checkpoint_files import entry_for, in_order_of_use, meta, published, write
from fault_server import FaultServer
from safetensors.torch import save_file
from torch import Tensor, nn

from antialiased_zoo.errors import MalformedFileError, NonFiniteError, TensorMismatchError, ZooError
from antialiased_zoo.weights import checkpoints, hub, manifest
from antialiased_zoo.weights.hub import cache, stamps

# One small network per layout from server to model; vgg and alexnet, half a gigabyte each, by their names alone.
SMALL_NETWORKS = ("resnet18", pytest.param("densenet121", marks=pytest.mark.slow), "mobilenet_v2")


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
        checkpoints.load_into(model, path)
        assert {k: v.tolist() for k, v in model.state_dict().items()} == {k: v.tolist() for k, v in state.items()}
        assert all(p.requires_grad for p in model.parameters())
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

        monkeypatch.setattr(checkpoints.loading, "convert", refuse)
        model = meta("resnet18")
        assert checkpoints.load_entry(model, entry, progress=False) == path
        assert not any(p.is_meta for p in model.parameters())

    def test_dtypes_that_torch_cannot_search_for_nan(self, tmp_path: Path) -> None:
        state = {"weight": torch.ones(1, 1).to(torch.float8_e4m3fn), "bias": torch.ones(1)}
        torch.save(state, tmp_path / "w.pth")
        with pytest.raises(MalformedFileError, match="'weight' has dtype float8_e4m3fn"):
            checkpoints.convert(tmp_path / "w.pth", tmp_path / "out", nn.Linear(1, 1).state_dict(), source_sha256="")

    def test_script(self, served: tuple[manifest.Entry, Path], tmp_path: Path) -> None:
        import runpy

        script = Path(__file__).parents[2] / "scripts" / "convert_checkpoint.py"
        runpy.run_path(str(script))["main"](["resnet18", str(served[1]), str(tmp_path / "out.safetensors")])
        model = meta("resnet18")
        checkpoints.load_into(model, tmp_path / "out.safetensors")
        torch.testing.assert_close(model.fc.bias.detach(), published("resnet18")["fc.bias"], rtol=0, atol=0)
        assert [p.name for p in tmp_path.iterdir()] == ["out.safetensors"]
        before = served[1].read_bytes()
        with pytest.raises(SystemExit):
            runpy.run_path(str(script))["main"](["resnet18", str(served[1]), str(served[1])])
        assert served[1].read_bytes() == before
        for network, file, message in (
            ("resnet50", served[1], "missing from the file: layer1.0.bn3"),
            ("resnet19", served[1], "Unknown model resnet19"),
            ("resnet18", "no.pth", "No such file"),
        ):
            with pytest.raises((ZooError, ValueError, OSError), match=message):
                runpy.run_path(str(script))["main"]([network, str(file), str(tmp_path / "other.safetensors")])


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
