"""scripts/average.py: the mean of two runs' weights, with a record that a manifest takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import average
import pytest
import torch
from safetensors.torch import load_file

import antialiased_zoo as az
from antialiased_zoo.training import RunFolder, manifest_entry
from antialiased_zoo.weights import Preprocessing

_FACTS = {"model": "mobilenet_v2", "filter_size": 4, "recipe": "distilled", "num_classes": 3}


def saved(folder: Path, seed: int, stated: dict[str, object] | None = None, **options: float) -> str:
    """The spec of a network with its record, as ``adapt`` leaves it."""
    torch.manual_seed(seed)
    network = az.mobilenet_v2(4, num_classes=3, **{"width_mult": 0.1, **options})
    state = network.state_dict()
    state["features.0.1.num_batches_tracked"].fill_(7)
    facts: dict[str, Any] = {"preprocessing": Preprocessing(40, 32), "classes": ("a", "b", "c")}
    facts |= {"metrics": {"acc1": 90.0}, **(stated or {})}
    path = RunFolder(folder).save_weights(state, "mobilenet_v2_lpf4_distilled", **facts)
    entry = manifest_entry(path, {**_FACTS, "command": f"adapt --seed {seed}", "metrics": {"acc1": 90.0}})
    RunFolder(folder).save_record({"entry": entry}, path)
    return f"mobilenet_v2:lpf4:{path}"


def test_it_writes_the_mean_with_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    specs = [saved(tmp_path / str(seed), seed) for seed in (0, 1)]
    average.main([*specs, "--out", str(tmp_path / "mean")])
    path = Path(capsys.readouterr().out.strip().removeprefix("weights: "))
    assert path.parent == tmp_path / "mean"
    first, second, made = (load_file(each) for each in (*(spec.split(":")[2] for spec in specs), path))
    name = "classifier.1.weight"
    torch.testing.assert_close(made[name], ((first[name].double() + second[name].double()) / 2).half())
    assert made["features.0.1.num_batches_tracked"] == 7
    entry = json.loads(path.with_suffix(".json").read_text())["entry"]
    assert (entry["file"], entry["recipe"]) == (path.name, "distilled")
    commands = "adapt --seed 0 && adapt --seed 1 && python scripts/average.py mobilenet_v2:lpf4:"
    assert entry["command"].startswith(commands)
    config = az.from_pretrained(path).config
    assert "metrics" not in entry
    assert config.metrics == {}
    assert (config.filter_size, config.classes, config.preprocessing) == (4, ("a", "b", "c"), Preprocessing(40, 32))


def test_it_refuses_what_has_no_mean(tmp_path: Path) -> None:
    spec = saved(tmp_path / "one", 0)
    with pytest.raises(ValueError, match="need two models or more, got 1"):
        average.main([spec, "--out", str(tmp_path / "mean")])
    renamed = saved(tmp_path / "renamed", 1, {"classes": ("c", "a", "b")})
    resized = saved(tmp_path / "resized", 1, {"preprocessing": Preprocessing(48, 32)})
    wide = saved(tmp_path / "wide", 0, width_mult=0.2)
    state = az.mobilenet_v2(4, num_classes=3, width_mult=0.1).state_dict()
    torch.save(dict(state), tmp_path / "plain.pth")  # a plain dict states no structure
    plain = f"mobilenet_v2:lpf4:{tmp_path / 'plain.pth'}"
    for others, message in (
        ([spec, wide], f"{wide} is not the network of"),
        ([spec, renamed], f"{renamed} has other classes than"),
        ([spec, resized], f"{resized} has other preprocessing than"),
        ([plain, plain], "each file must state its network"),
    ):
        with pytest.raises(ValueError, match=message):
            average.main([*others, "--out", str(tmp_path / "mean")])
    assert not (tmp_path / "mean").exists()
