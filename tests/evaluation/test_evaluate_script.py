"""scripts/evaluate.py as a user runs it, alone and as one of torchrun's processes, and how it names models."""

import contextlib
import json
import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluate import main
from forked import free_port, of_two, run_two
from noisy_images import write_images
from torch import nn

from antialiased_zoo.evaluation import class_index, load_named
from antialiased_zoo.evaluation.samples import common_layers
from antialiased_zoo.weights.preprocessing import Preprocessing

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


MODELS = """
import torch
from torch import nn

def small():
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 32, 3, stride=4, bias=False), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.LayerNorm(32)]
    return nn.Sequential(*body, nn.Linear(32, 3, bias=False))

broken = 3
"""


SMALL_SIZES = ["--resize", "72", "--crop", "40", "--device", "cpu", "--threads", "1", "--no-progress"]
SCRIPT = ROOT / "scripts" / "evaluate.py"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script's main, where MODULE:CALLABLE finds MODELS."""
    (tmp_path / "mymodels.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mymodels", raising=False)
    threads = torch.get_num_threads()
    yield main
    torch.set_num_threads(threads)


def damaged_copy(folder, root):
    for path in folder.glob("*/*.png"):
        place = root / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        (place / path.name).write_bytes(path.read_bytes()[: 300 if path.stem == "07" else None])
    return root


def _one_of_two(rank, options, folder, port):
    os.environ.update(of_two(rank, port))
    sys.argv = [str(SCRIPT), *options]
    with (folder / f"{rank}.txt").open("w") as printed, contextlib.redirect_stdout(printed):
        runpy.run_path(str(SCRIPT), run_name="__main__")


def test_two_processes_find_what_one_finds(folder, tmp_path, script, capsys):
    pytest.importorskip("matplotlib")
    common = ["one=mymodels:small", "--data", str(damaged_copy(folder, tmp_path / "images")), *SMALL_SIZES]
    common += ["--pairs", "2", "--metrics", "accuracy", "crop", "circular", "diagonal"]
    script([*common, "--workers", "0", "--out", str(tmp_path / "one")])
    assert "skipped: cannot decode" in capsys.readouterr().err
    options = ["--workers", "0", "--batch-size", "5", "--out", str(tmp_path / "two")]
    run_two(_one_of_two, [*common, *options], tmp_path, free_port())
    # The first process alone reports.
    assert [(tmp_path / f"{rank}.txt").read_text().count("| one |") for rank in range(2)] == [1, 0]
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two")]
    starts = [result["command"].partition(" one=mymodels:small ")[0] for result in results]
    assert starts == [f"{start} scripts/evaluate.py" for start in ("python", "torchrun --nproc-per-node 2")]
    first, second = (result["models"]["one"] for result in results)
    assert first["images"] == second["images"] == 22
    assert first["skipped"] == second["skipped"]
    assert "b/07.png" in first["skipped"][0]
    for name in ("top1", "crop_consistency", "circular_consistency", "diagonal_top1"):
        assert first["figures"][name] == second["figures"][name]
    # A probability may round differently in another batch.
    assert first["figures"]["wobble"]["value"] == pytest.approx(second["figures"]["wobble"]["value"], abs=1e-4)
    assert results[0]["data"]["sha256"] == results[1]["data"]["sha256"]
    figure = first["figures"]["crop_consistency"]
    row = f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"
    assert row in (tmp_path / "one" / "table.md").read_text()
    pictures = {"accuracy-crop.png", "accuracy-circular.png", "shift-curves.png"}
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"results.json", "table.md", *pictures}


def test_the_script_measures_features_and_paper_mode(folder, tmp_path, script, capsys):
    pytest.importorskip("matplotlib")
    models = ["a=mymodels:small", "b=mymodels:small"]
    options = ["--metrics", "crop", "features", "--paper", "--grid", "2", "--feature-images", "2", "--layers", "0"]
    sizes = [*SMALL_SIZES, "--workers", "0", "--limit", "9", "--overhead", "--no-digest"]
    script([*models, "--data", str(folder), *options, *sizes, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr()
    assert "9 images, " in printed.err
    assert "9 images, " not in printed.out  # only the table
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    maps = [record["models"][label]["feature_distance"]["0"] for label in "ab"]
    assert record["draw"] == {"mode": "paper", "pairs": 5, "circular_pairs": 1, "seed": 0}
    assert maps[0] == maps[1]
    assert np.shape(maps[0]["mean"]) == (2, 2)
    assert maps[0]["mean"][0][0] == pytest.approx(0, abs=1e-6)
    assert len(record["models"]["a"]["figures"]["crop_consistency"]["each"]) == 5
    assert (tmp_path / "out" / "feature-distance.png").exists()


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ("one=mymodels:small", "empty", "no images in"),
        ("one=mymodels:small", "nowhere", "no folder or zip at"),
        ("one=mymodels:broken", ".", "of type int"),
        ("one=mymodels:nothing", ".", "cannot import nothing from module mymodels"),
        ("resnet18:lpf9", ".", "names no filter; expected"),
        ("resnet81", ".", r"neither a zoo model \(did you mean resnet18 .*\) nor MODULE:CALLABLE"),
        ("resnet81:lpf4", ".", r"cannot import lpf4 from module resnet81: .* \(did you mean resnet18 "),
    ],
)
def test_the_script_says_what_is_wrong(folder, tmp_path, script, model, data, message):
    (tmp_path / "empty").mkdir()
    place = folder if data == "." else tmp_path / data
    with pytest.raises((ValueError, OSError), match=message):
        script([model, "--data", str(place), *SMALL_SIZES])


def test_a_label_that_the_output_cannot_show_is_escaped(folder, tmp_path, script):
    """An error after the measurement left neither table.md nor pictures."""
    pytest.importorskip("matplotlib")
    with (tmp_path / "out.txt").open("w", encoding="ascii") as printed, contextlib.redirect_stdout(printed):
        script(["größer=mymodels:small", "--data", str(folder), *SMALL_SIZES, "--out", str(tmp_path / "out")])
    assert "| gr\\xf6\\xdfer |" in (tmp_path / "out.txt").read_text()
    assert "| größer |" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "accuracy-crop.png").exists()


def test_a_closed_output_loses_no_figures(folder, tmp_path, script):
    with (tmp_path / "out.txt").open("w") as closed:
        pass
    with contextlib.redirect_stdout(closed), pytest.raises(ValueError, match="closed file"):
        script(["mymodels:small", "--data", str(folder), *SMALL_SIZES, "--out", str(tmp_path / "out")])
    assert "| mymodels:small |" in (tmp_path / "out" / "table.md").read_text()


def test_models_are_named_with_what_training_recorded(tmp_path):
    from safetensors.torch import save_file

    model = load_named("resnet18:lpf2", num_classes=3).model
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    facts = {"preprocessing": {"resize": 40, "crop": 40, "mean": [0.1, 0.2, 0.3]}, "classes": ["b", "a", "c"]}
    (tmp_path / "weights.json").write_text(json.dumps({"entry": facts}))
    named = load_named(f"mine=resnet18:lpf2:{tmp_path / 'weights.safetensors'}", num_classes=3)
    assert (named.label, named.preprocessing) == ("mine", Preprocessing(40, 40, mean=(0.1, 0.2, 0.3)))
    for name, tensor in named.model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert class_index(["a", "b"], named.classes) == [1, 0]
    (tmp_path / "weights.json").write_text("{}")
    assert load_named(f"resnet18:lpf2:{tmp_path / 'weights.safetensors'}", num_classes=3).preprocessing is None
    with pytest.raises(ValueError, match=r"classes that the model lacks: d \(1 of 2\)"):
        class_index(["a", "d"], named.classes)


def test_stages_are_chosen_for_feature_maps():
    from torchvision.models import mobilenet_v2, resnet18

    image = torch.randn(1, 3, 64, 64)
    assert common_layers({"a": resnet18(), "b": resnet18()}, image) == ["layer1", "layer2", "layer3", "layer4"]
    assert common_layers({"a": mobilenet_v2()}, image, 2) == ["features.8", "features.18"]
    with pytest.raises(ValueError, match="share no layer"):
        common_layers({"a": nn.Sequential(nn.Flatten())}, image)
