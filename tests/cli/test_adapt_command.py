"""``antialiased-zoo adapt`` as a user runs it: what it writes, and that a second run goes on from the first."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
import torch
from manifests import text_of
from tiny_training import make_images
from torch import nn

import antialiased_zoo as az
from antialiased_zoo import cli
from antialiased_zoo.cli import adapt, adapt_run
from antialiased_zoo.cli.adapt_measures import measure
from antialiased_zoo.evaluation import Options, PhotoBatches, open_images, protocol_for, with_room
from antialiased_zoo.evaluation.stated import from_file
from antialiased_zoo.training import Execution, RunFolder
from antialiased_zoo.weights import Preprocessing
from antialiased_zoo.weights.checkpoints import read_contents
from antialiased_zoo.weights.manifest import parse


@pytest.fixture
def baseline(tmp_path: Path) -> str:
    """A network of two classes for 24 pixels, its preprocessing in the record beside it, as training leaves it."""
    torch.manual_seed(0)
    network = az.mobilenet_v2(None, num_classes=2, width_mult=0.1)
    path = RunFolder(tmp_path / "run").save_weights(network.state_dict(), "test", Preprocessing())
    facts = {"resize": 24, "crop": 24, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}
    path.with_suffix(".json").write_text(json.dumps({"entry": {"preprocessing": facts, "classes": ["blue", "red"]}}))
    return f"mobilenet_v2:baseline:{path}"


def test_a_run_of_other_settings_or_without_a_folder_is_refused_before_the_work(
    baseline: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt_run, "_HELD_OUT", 8)
    images, out = make_images(tmp_path / "data", train=8, val=1) / "train", tmp_path / "out"
    call = ["adapt", baseline, "--images", str(images), "--device", "cpu", "--quiet", "--steps", "2"]
    call += ["--batch-size", "4"]
    assert cli.main([*call, "--out", str(out)]) == 0
    monkeypatch.setattr(adapt_run, "antialias", None)
    (tmp_path / "file").touch()
    for more, said in (
        (["--seed", "1"], "(seed: 0 there, 1 now)"),
        (["--steps", "3"], "(steps: 2 there, 3 now)"),
        (["--lr", "1e-3"], "(lr: 0.0002 there, 0.001 now)"),
        (["--amp"], "(amp: None there, torch.bfloat16 now)"),
        (["--layers", "features"], "(layers: None there, ['features'] now)"),
        (["--out", str(tmp_path / "file")], f"{tmp_path / 'file'} must be a folder, but it is a file or in one"),
    ):
        capsys.readouterr()
        assert cli.main([*call, "--out", str(out), *more]) == 1
        assert said in capsys.readouterr().err


def test_it_writes_weights_that_load_with_their_record(
    baseline: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt_run, "_HELD_OUT", 8)
    images, out = make_images(tmp_path / "data", train=20, val=1) / "train", tmp_path / "out"
    options = ["--images", str(images), "--out", str(out), "--steps", "3", "--batch-size", "32", "--device", "cpu"]
    assert cli.main(["adapt", baseline, *options, "--quiet"]) == 0
    printed = capsys.readouterr()
    (file,) = out.glob("mobilenet_v2_lpf4_distilled-*.safetensors")
    assert str(file) in printed.out
    record = json.loads(file.with_suffix(".json").read_text())
    entry = record["entry"]
    assert (entry["filter_size"], entry["recipe"], entry["classes"]) == (4, "distilled", ["blue", "red"])
    assert shlex.split(entry["command"]) == ["antialiased-zoo", "adapt", baseline, *options, "--quiet"]
    assert f"`{entry['command']}`" in (out / "card.md").read_text()
    # The entry is one that a manifest takes, once its licence is stated.
    parse(text_of({**entry, "license": "MIT"}))
    assert set(record["figures"]) == {"before", "antialiased", "recalibrated", "after"}
    assert record["figures"]["before"]["top1"]["value"] == 100  # it agrees with itself
    assert record["data"] == {"images": 40, "held_out": 8, "measured": 8, "skipped": 0}
    assert [entry["step"] for entry in record["curve"]] == [1, 2, 3]
    assert set(record["curve"][-1]) == {"step", "loss", "agreement", "divergence"}
    assert "| after |" in (out / "card.md").read_text()
    assert (out / "shifts.png").stat().st_size > 1000
    # The weights state the same as the record beside them, from which they may be parted.
    alone = copy(file, tmp_path / "alone.safetensors")
    stated = from_file(alone)
    assert stated["stated_by"] == "the record in its weights"
    assert list(stated["classes"]) == ["blue", "red"]
    assert stated["preprocessing"] == Preprocessing(24, 24, "bilinear", (0.5,) * 3, (0.5,) * 3)
    model = az.mobilenet_v2(4, pretrained=file, num_classes=2, width_mult=0.1)
    assert len(az.plan(model).treated) == 0  # antialiased already
    first = file.read_bytes()
    assert cli.main(["adapt", baseline, *options, "--quiet"]) == 0  # a finished run is measured, not trained, again
    assert file.read_bytes() == first
    make_images(tmp_path / "others", train=20, val=1, seed=1)
    photos = ["--images", str(tmp_path / "others" / "train")]  # the same names, the same number, other photos
    assert cli.main(["adapt", baseline, *photos, *options[2:], "--quiet"]) == 1
    assert "is of another run (images: train (40 photos, digest " in capsys.readouterr().err
    assert json.loads(file.with_suffix(".json").read_text()) == record
    with pytest.MonkeyPatch.context() as patch:  # as an older version chose them
        patch.setattr(adapt_run, "_held_out", lambda _: list(range(32, 40)))
        assert cli.main(["adapt", baseline, *options, "--quiet"]) == 1
    assert "is of another run (held_out_photos: 8 (digest " in capsys.readouterr().err
    for option, there, now in (("filter-size", 4, 3), ("batch-size", 32, 16), ("size", 24, 16)):
        assert cli.main(["adapt", baseline, *options, f"--{option}", str(now), "--quiet"]) == 1
        name = option.replace("-", "_")
        assert f"is of another run ({name}: {there} there, {now} now); repeat its command" in capsys.readouterr().err


def test_photos_that_cannot_be_decoded_are_left_out_and_counted(tmp_path: Path) -> None:
    images = make_images(tmp_path / "data", train=10, val=1) / "train"
    for name in ("blue/3.png", "red/0.png"):
        (images / name).write_bytes(b"no image")
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.LayerNorm(8)]
    one, other = (nn.Sequential(*body, nn.Linear(8, 4)) for _ in range(2))
    files, small = open_images(images), Preprocessing(40, 40)
    photos = PhotoBatches(files, range(20), small)
    found = measure({"before": one, "after": other}, photos, Options(progress=False))
    assert (found.images, [number for number, _ in found.skipped]) == (18, [3, 10])
    assert found.figures("before")["top1"]["value"] == 100
    seen = torch.stack([small.build()(files.image(index)) for index in range(20) if index not in (3, 10)])
    same = (one.eval()(seen).argmax(1) == other.eval()(seen).argmax(1)).double().mean()
    assert found.figures("after")["top1"]["value"] == pytest.approx(100 * float(same))
    held_out = [len(batch) for batch in PhotoBatches(files, range(8, 20), small)]
    assert held_out == [11]  # as distill compares them


@pytest.mark.parametrize("spec", ["blurrednets:build", "blurrednets:build:lpf3", "mobilenet_v2:lpf4:cifar10"])
def test_an_antialiased_network_is_refused_before_the_work(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build = "az.antialias(az.mobilenet_v2(None, width_mult=0.1), 2)"
    (tmp_path / "blurrednets.py").write_text(f"import antialiased_zoo as az\n\ndef build():\n    return {build}\n")
    monkeypatch.chdir(tmp_path)
    make_images(tmp_path / "data", train=40, val=1)
    words = ["adapt", spec, "--images", "data/train", "--out", "out", "--device", "cpu", "--quiet"]
    assert cli.main([*words, "--filter-size", "4"]) == 1
    assert f"{spec} is antialiased already" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_diverged_run_ends_in_one_line(
    baseline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(adapt_run, "_HELD_OUT", 8)
    images = make_images(tmp_path / "data", train=20, val=1) / "train"
    options = ["--images", str(images), "--out", str(tmp_path / "out"), "--steps", "3", "--device", "cpu", "--quiet"]
    assert cli.main(["adapt", baseline, *options, "--lr", "1e30"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("{")]
    assert "lower the learning rate" in line


@pytest.mark.slow
def test_under_torchrun_the_record_has_the_number_of_processes(baseline: str, tmp_path: Path) -> None:
    """The launcher itself, and two processes from end to end."""
    images, out = make_images(tmp_path / "data", train=40, val=1) / "train", tmp_path / "out"
    options = ["--images", str(images), "--out", str(out), "--steps", "2", "--batch-size", "32", "--device", "cpu"]
    words = ["--nproc-per-node", "2", "-m", "antialiased_zoo", "adapt", baseline, *options, "--threads", "1", "--quiet"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", *words]
    done = subprocess.run(launch, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = out.glob("mobilenet_v2_lpf4_distilled-*.safetensors")
    assert done.stdout.count(f"weights: {file}") == 1  # only the first process reports
    record = json.loads(file.with_suffix(".json").read_text())
    assert shlex.split(record["entry"]["command"]) == ["torchrun", *words]
    assert record["entry"]["command"] in (out / "card.md").read_text()
    assert record["data"] == {"images": 80, "held_out": 64, "measured": 64, "skipped": 0}
    assert record["figures"]["before"]["top1"]["value"] == 100
    az.mobilenet_v2(4, pretrained=file, num_classes=2, width_mult=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--images", "nowhere"], "no folder or zip at nowhere"),
        (["--size", "3"], "no layer's map of an image of 3 pixels is large enough for shifts of 2 pixels"),
        (["--layers", "features.99"], "has no layer 'features.99'"),
        (["--reach", "9", "--layers", "features.18"], "too small for shifts"),
        (["--evaluate", "nowhere"], "no folder or zip at nowhere"),
        (["--start", "mobilenet_v2:lpf4"], "--start mobilenet_v2:lpf4 is not a copy of"),
    ],
)
def test_failures_say_what_to_do_before_any_work(
    change: list[str],
    message: str,
    baseline: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adapt_run, "recalibrate", None)
    images = make_images(tmp_path / "data", train=48, val=1) / "train"
    arguments = ["adapt", baseline, "--images", str(images), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert cli.main([*arguments, "--batch-size", "32", "--quiet", *change]) == 1
    assert message in capsys.readouterr().err


def test_a_size_that_the_network_cannot_take_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unpadded.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    layers = nn.Conv2d(3, 4, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)\n"
        "    return nn.Sequential(*layers)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(adapt_run, "recalibrate", None)
    make_images(tmp_path / "data", train=48, val=1)
    words = ["adapt", "unpadded:build", "--images", "data/train", "--out", "out", "--device", "cpu", "--size", "4"]
    assert cli.main(words) == 1
    assert "does not map an image of 4 pixels" in capsys.readouterr().err


@pytest.mark.parametrize("own", [True, False])
def test_freed_memory_is_kept_only_in_a_process_of_its_own(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    monkeypatch.setattr("antialiased_zoo.layers.keep_freed_memory", lambda: calls.append(True))
    monkeypatch.setattr("antialiased_zoo.cli.adapt_run.adapt", lambda _: "")
    arguments = ["adapt", "resnet18", "--images", "x", "--out", "y"]
    monkeypatch.setattr(sys, "argv", ["antialiased-zoo", *arguments])
    assert cli.main(None if own else arguments) == 0
    assert calls == [True] * own


def test_too_few_photos(baseline: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = make_images(tmp_path / "data", train=3, val=1) / "train"
    assert cli.main(["adapt", baseline, "--images", str(images), "--out", str(tmp_path), "--device", "cpu"]) == 1
    assert "has 6 photos; give more than 64" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spec", "loaded", "name"),
    [
        ("resnet50", "resnet50:baseline:torchvision", "resnet50"),
        ("torchvision:resnet50:IMAGENET1K_V2", "torchvision:resnet50:IMAGENET1K_V2", "resnet50"),
        ("a=mobilenet_v2:baseline:cifar10", "a=mobilenet_v2:baseline:cifar10", "mobilenet_v2"),
        ("hf-hub:timm/resnet10t.c3_in1k", "hf-hub:timm/resnet10t.c3_in1k", "timm/resnet10t.c3_in1k"),
        ("timm:resnet10t.c3_in1k", "timm:resnet10t.c3_in1k", "resnet10t.c3_in1k"),
    ],
)
def test_what_a_spec_names(spec: str, loaded: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(adapt_run, "load_named", lambda text, progress: asked.append(text))
    adapt_run._load(spec, progress=False)
    assert asked == [loaded]
    assert adapt_run._name(spec) == name


def test_it_starts_from_an_adapted_copy_as_that_is(
    baseline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not recalibrated: its statistics are those that its weights were trained with."""
    adapted = az.mobilenet_v2(4, num_classes=2, width_mult=0.1).half().float()
    path = RunFolder(tmp_path).save_weights(adapted.state_dict(), "adapted", Preprocessing())
    words = ["--start", f"mobilenet_v2:lpf4:{path}", "--images", "photos", "--out", str(tmp_path / "out"), "--quiet"]
    parser = argparse.ArgumentParser()
    adapt.add_arguments(parser)
    named = adapt_run._load(baseline, progress=False)
    assert named.preprocessing
    photos = open_images(make_images(tmp_path / "data", train=48, val=1) / "train")
    monkeypatch.setattr(adapt_run, "distill", lambda *_, **options: taught.append(options))
    monkeypatch.setattr(adapt_run, "recalibrate", None)
    taught: list[dict[str, Any]] = []
    how = Execution()
    held_out = range(len(photos) - 8, len(photos))
    stages = adapt_run._stages(named, parser.parse_args([baseline, *words]), photos, held_out, named.preprocessing, how)
    assert list(stages) == ["before", "start", "after"]
    assert stages["start"] is not stages["after"]
    for stage in ("start", "after"):
        tensors = stages[stage].state_dict()
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in adapted.state_dict().items())
    assert taught[-1]["identity"]["start"] == f"mobilenet_v2:lpf4:{path}"
    identity = taught[-1]["identity"]
    assert identity["images"].startswith("photos (96 photos, digest ")
    assert (identity["structure"], identity["mixup"]) == ({}, 0.5)  # what the network and its crops were


def test_networks_without_a_published_structure_alternate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [f"nn.Conv2d({n}, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU()" for n in (3, 4)]
    parts.append("nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)")
    module = f"from torch import nn\ndef build():\n    return nn.Sequential({', '.join(parts)})\n"
    (tmp_path / "tiny_model.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(adapt_run, "_HELD_OUT", 8)
    images, out = make_images(tmp_path / "data", train=8, val=1) / "train", tmp_path / "out"
    options = ["--images", str(images), "--out", str(out), "--steps", "1", "--batch-size", "4", "--size", "24"]
    assert cli.main(["adapt", "tiny_model:build", *options, "--device", "cpu", "--quiet"]) == 0
    (file,) = out.glob("*.safetensors")
    config = read_contents(file).config
    assert config
    assert (config.filter_size, config.structure["downsampler"], config.num_classes) == (4, "alternating", 2)


@pytest.mark.parametrize(
    ("resize", "crop", "name", "canvas"),
    [
        (232, 224, "imagenet", 256),  # torchvision's newest weights
        (224, 224, "imagenet", 256),  # some of timm's
        (64, 56, "imagenet", 88),
        (64, 64, "cifar", 64),
    ],
)
def test_there_is_room_to_shift_in(resize: int, crop: int, name: str, canvas: int) -> None:
    protocol = protocol_for(with_room(Preprocessing(resize, crop)))
    assert (protocol.name, protocol.canvas) == (name, canvas)
    assert protocol.crop_offsets


def test_held_out_photos_are_of_all_classes(tmp_path: Path) -> None:
    """The last ones, of the last class folder, chose the weights for all."""
    photos = open_images(make_images(tmp_path, train=40, val=1) / "train")
    chosen = adapt_run._held_out(photos)
    assert (len(set(chosen)), min(chosen), max(chosen)) == (64, 0, 79)
    assert [[photos.targets[index] for index in chosen].count(target) for target in (0, 1)] == [32, 32]


@pytest.mark.parametrize("spoiled", ["--images", "--evaluate"])
def test_photos_of_which_none_can_be_decoded_are_refused_before_the_work(
    spoiled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last step, hours later, found that there was nothing to measure."""
    folders = {name: make_images(tmp_path / name, train=40, val=1) / "train" for name in ("--images", "--evaluate")}
    for file in folders[spoiled].rglob("*.png"):
        file.write_bytes(b"no image")
    words = [word for pair in folders.items() for word in map(str, pair)]
    assert cli.main(["adapt", "resnet18:baseline:none", *words, "--out", str(tmp_path / "out")]) == 1
    assert f"cannot decode {folders[spoiled]}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
