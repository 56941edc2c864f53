"""scripts/add_entry.py, on a copy of the manifest."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from checkpoint_files import meta
from safetensors.torch import save_file

from antialiased_zoo.errors import CheckpointError
from antialiased_zoo.weights import manifest


class TestAddEntry:
    @pytest.fixture
    def script(self) -> dict[str, object]:
        import runpy

        return runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "add_entry.py"))

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
        with pytest.raises(ValueError, match="same model"):
            script["main"]([str(weights), "--manifest", str(listed)])
        script["main"]([str(weights), "--manifest", str(listed), "--replace"])

    def test_refuses_the_record_of_another_file(self, script: dict, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="the record is of a file with 0000"):
            script["record_of"](self.weights(tmp_path / "net.safetensors"), {**self.facts(), "sha256": "0" * 64}, None)

    @pytest.mark.parametrize("facts", [[1], "x", None, {"entry": [1]}])
    def test_refuses_what_is_no_record(self, facts: object, script: dict, tmp_path: Path) -> None:
        weights = self.weights(tmp_path / "net.safetensors")
        weights.with_suffix(".json").write_text(json.dumps(facts))
        with pytest.raises(ValueError, match="is not a JSON object"):
            script["main"]([str(weights)])

    def test_refuses_weights_that_do_not_fit(self, script: dict, tmp_path: Path) -> None:
        listed = tmp_path / "m.json"
        listed.write_bytes(manifest.own_path().read_bytes())
        before = listed.read_bytes()
        with pytest.raises(CheckpointError):
            script["add_entry"](self.weights(tmp_path / "net.safetensors", classes=3), self.facts(), listed)
        assert listed.read_bytes() == before
        assert {p.name for p in tmp_path.iterdir()} == {"m.json", "net.safetensors"}
