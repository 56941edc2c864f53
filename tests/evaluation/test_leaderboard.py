"""scripts/leaderboard.py: its figures are evaluate.py's, a kill costs nothing, and its list of networks is complete."""

import csv
import hashlib
import json
import sys
import time
from pathlib import Path

import evaluate
import leaderboard
import leaderboard_page
import numpy as np
import pytest
import torch
from forked import of_script, start_code
from PIL import Image

from antialiased_zoo.evaluation import PROTOCOL_VERSION, cifar, imagenet, with_room
from antialiased_zoo.metrics import draw_pairs
from antialiased_zoo.weights import Preprocessing, manifest

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "scripts" / "leaderboard_models.txt"
PAIR = "[plain]\nplain=mobilenet_v2:baseline:cifar10\n[blurred]\nk4=mobilenet_v2:lpf4:cifar10  # a comment\n"
SMALL = """
import os, time, torch
from torch import nn

def net(seed):
    torch.manual_seed(seed)
    body = [nn.Conv2d(3, 8, 3, stride=4, bias=False), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 10)]
    model = nn.Sequential(*body)
    size = {"input_size": (3, 32, 32), "crop_pct": 1.0, "mean": (0.5,) * 3, "std": (0.3,) * 3}
    model.pretrained_cfg = size
    return model

def one(): return net(1)

def two():
    if os.environ.get("STOP"):
        time.sleep(600)
    return net(int(os.environ.get("SEED", 2)))

def three():
    # the same tensors in another structure, or with other normalisation
    model = net(3)
    if os.environ.get("CHANGE") == "structure":
        model[1] = nn.AdaptiveAvgPool2d(1)
    if os.environ.get("CHANGE") == "stride":
        model[0].stride = (2, 2)
    if os.environ.get("CHANGE") == "mean":
        model.pretrained_cfg = {**model.pretrained_cfg, "mean": (0.4,) * 3}
    if os.environ.get("CHANGE") == "std":
        model.pretrained_cfg = {**model.pretrained_cfg, "std": (0.4,) * 3}
    return model
"""
OPTIONS = ["--device", "cpu", "--workers", "0", "--no-speed", "--no-progress"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve noisy PNGs in two of CIFAR-10's classes."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for index in range(12):
        place = root / ("cat", "ship")[index % 2]
        place.mkdir(exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((40, 50)).save(place / f"{index:02}.png")
    return root


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models file of two small networks of one's own."""
    (tmp_path / "smallnets.py").write_text(SMALL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "smallnets", raising=False)
    path = tmp_path / "models.txt"
    path.write_text("[own]\none=smallnets:one MIT\ntwo=smallnets:two\n")
    return path


@pytest.fixture(scope="module")
def ten(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images in ten classes, as many as the small networks have."""
    root = tmp_path_factory.mktemp("ten")
    for index, path in enumerate(sorted(folder.glob("*/*.png"))):
        place = root / f"class{index % 10}"
        place.mkdir(exist_ok=True)
        (place / path.name).write_bytes(path.read_bytes())
    return root


def run(models: Path, folder: Path, out: Path, *more: str) -> int:
    return leaderboard.main(["--models", str(models), "--data", str(folder), "--out", str(out), *OPTIONS, *more])


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_packaged_pairs_figures_are_those_of_evaluate(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pair.txt").write_text(PAIR)
    common = ["--data", str(folder), "--limit", "2", "--device", "cpu", "--workers", "0", "--no-progress"]
    options = ["--models", str(tmp_path / "pair.txt"), "--out", str(tmp_path / "pair.csv"), "-b", "4"]
    assert leaderboard.main([*options, *common]) == 0
    names = ["plain=mobilenet_v2:baseline:cifar10", "k4=mobilenet_v2:lpf4:cifar10"]
    metrics = ["--metrics", "accuracy", "crop", "circular", "diagonal", "-b", "4", "--no-digest"]
    evaluate.main([*names, *common, *metrics, "--out", str(tmp_path / "evaluate")])
    expected = json.loads((tmp_path / "evaluate" / "results.json").read_text())["models"]
    rows = rows_of(tmp_path / "pair.csv")
    assert [row["group"] for row in rows] == ["plain", "blurred"]
    for row in rows:
        for name in leaderboard.MEASURES:
            figure = expected[row["model"]]["figures"][name]
            found = [float(row[f"{name}{end}"]) for end in ("", "_low", "_high", "_n")]
            assert found == [figure[end] for end in ("value", "low", "high", "n")]
        assert float(row["images_per_second_low"]) <= float(row["images_per_second"])
        assert row["parameters"] == "2236682"
        assert (row["licence"], row["protocol"], row["protocol_version"]) == ("MIT", "cifar", "1")
    assert rows[0]["digest"] != rows[1]["digest"]
    assert int(rows[0]["multiply_adds"]) < int(rows[1]["multiply_adds"])


def test_killed_and_resumed_it_writes_the_same_file(
    models: Path, ten: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "killed.csv"
    assert run(models, ten, whole) == 0
    command = ["--models", str(models), "--data", str(ten), "--out", str(out), *OPTIONS]
    process = start_code(of_script(ROOT / "scripts" / "leaderboard.py", *command), tmp_path, STOP="1")
    deadline = time.monotonic() + 300
    while not out.exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.join()
    assert [row["model"] for row in rows_of(out)] == ["one"]
    capsys.readouterr()
    assert run(models, ten, out) == 0
    assert "one: resize" not in capsys.readouterr().err  # not measured again
    assert out.read_bytes() == whole.read_bytes()


def test_only_what_changed_is_measured_again(
    models: Path, ten: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    run(models, ten, out)
    before = rows_of(out)
    monkeypatch.setenv("SEED", "5")
    capsys.readouterr()
    run(models, ten, out)
    err = capsys.readouterr().err
    assert "one: resize" not in err
    assert "two: resize" in err
    after = rows_of(out)
    assert after[0] == before[0]
    assert after[1]["digest"] != before[1]["digest"]
    models.write_text("[other]\none=smallnets:one Apache-2.0\n")
    run(models, ten, out)
    assert [row["licence"] for row in rows_of(out)] == ["Apache-2.0", ""]  # the other row stays


@pytest.mark.parametrize("change", ["structure", "stride", "mean", "std", "labels"])
def test_what_the_tensors_do_not_show_is_measured_again(
    change: str,
    models: Path,
    ten: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, flat = tmp_path / "out.csv", tmp_path / "flat"
    models.write_text("[own]\nthree=smallnets:three\n")
    flat.mkdir()
    names = [path.name for path in sorted(ten.glob("*/*.png"), key=lambda path: path.name)]
    for path in ten.glob("*/*.png"):
        (flat / path.name).write_bytes(path.read_bytes())
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"{name} {number % 10}\n" for number, name in enumerate(names)))
    run(models, flat, out, "--labels", str(labels))
    (before,) = rows_of(out)
    monkeypatch.setenv("CHANGE", change)
    if change == "labels":
        labels.write_text("".join(f"{name} {(number + 1) % 10}\n" for number, name in enumerate(names)))
    capsys.readouterr()
    run(models, flat, out, "--labels", str(labels))
    assert "three: resize" in capsys.readouterr().err
    (after,) = rows_of(out)
    assert before["digest"] == after["digest"]
    run(models, flat, out, "--labels", str(labels))
    assert "three: resize" not in capsys.readouterr().err


def test_rows_of_an_earlier_version_are_measured_again(models: Path, ten: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    run(models, ten, out)
    rows, late = rows_of(out), ("labels_sha256", "structure", "mean", "std")
    with open(out, "w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name not in late], extrasaction="ignore")
        writer.writeheader()
        writer.writerows([{**row, "top1": "77.7"} for row in rows])
    run(models, ten, out, "--only", "one=*")
    one, two = rows_of(out)
    assert one == rows[0]
    assert (two["top1"], two["labels_sha256"]) == ("77.7", "")
    with pytest.raises(ValueError, match="are not comparable"):
        leaderboard_page.note([one, two])


def test_a_network_that_cannot_be_had_costs_only_its_own_row(
    models: Path, ten: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models.write_text("gone=smallnets:nowhere\nlost=resnet18:lpf2:missing.pth\n" + models.read_text())
    assert run(models, ten, tmp_path / "out.csv") == 1
    err = capsys.readouterr().err
    assert "cannot import nowhere" in err
    assert "no weights file missing.pth" in err
    assert "2 of 4 models" in err
    assert [row["model"] for row in rows_of(tmp_path / "out.csv")] == ["one", "two"]


def test_patterns_choose_from_the_list(models: Path, ten: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    for patterns, expected in ((["two=*"], ["two"]), (["one=*"], ["one", "two"])):
        assert run(models, ten, out, "--only", *patterns) == 0
        assert [row["model"] for row in rows_of(out)] == expected  # in the list's order
    with pytest.raises(ValueError, match="no model of the list matches 'three'"):
        run(models, ten, out, "--only", "one=*", "three")


def test_other_images_need_another_file(models: Path, ten: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    run(models, ten, out)
    with pytest.raises(ValueError, match="figures on other images"):
        run(models, ten, out, "--limit", "5")
    out.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="not a leaderboard"):
        run(models, ten, out)


def test_the_page_shows_the_rows_and_counts_what_is_missing(models: Path, ten: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.md"
    page.write_text("# Board\n\n<!-- leaderboard small -->\nold\n<!-- /leaderboard small -->\n\nend\n")
    models.write_text(models.read_text() + "[more]\nresnet18:lpf2:missing.pth\n")
    run(models, ten, tmp_path / "small.csv", "--page", str(page))
    text = page.read_text()
    assert "old" not in text
    assert text.endswith("<!-- /leaderboard small -->\n\nend\n")
    rows = sorted(rows_of(tmp_path / "small.csv"), key=lambda row: -float(row["crop_consistency"]))
    shown = [line for line in text.splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in shown] == [row["model"] for row in rows]
    figure = [float(rows[0][f"wobble{end}"]) for end in ("", "_low", "_high")]
    assert "{:.1f} [{:.1f}, {:.1f}]".format(*figure) in shown[0]
    assert "| own | 2 | 2 |\n| more | 1 | 0 |" in text
    assert "images/s" not in text
    assert (tmp_path / "pictures" / "leaderboard_small.png").read_bytes().startswith(b"\x89PNG")
    leaderboard_page.write(tmp_path / "small.csv", models, page)
    assert page.read_text() == text
    other = tmp_path / "other.csv"
    other.write_bytes((tmp_path / "small.csv").read_bytes())
    with pytest.raises(ValueError, match="has no <!-- leaderboard other -->"):
        leaderboard_page.write(other, models, page)
    with pytest.raises(ValueError, match="are not comparable"):
        leaderboard_page.note([rows[0], {**rows[1], "protocol_version": "0"}])


@pytest.mark.parametrize("text", ["one=a:b MIT too\n", "a:b\n\na:b\n"])
def test_a_wrong_line_of_a_models_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "models.txt").write_text(text)
    with pytest.raises(ValueError, match="is not a new model"):
        leaderboard.read_models(tmp_path / "models.txt")


def test_the_list_holds_every_network_of_the_manifest_and_its_plain_counterpart() -> None:
    listed = {one.spec: one for one in leaderboard.read_models(MODELS)}
    entries = [entry for entry in manifest.load() if entry.dataset == "ImageNet-1k"]
    for entry in [entry for entry in entries if entry.model.startswith("timm:")]:  # timm's own spec, blurred by timm
        assert listed[f"{entry.model}.{entry.recipe}"].group != "plain"
    entries = [entry for entry in entries if not entry.model.startswith("timm:")]
    for entry in entries:
        size = "baseline" if entry.filter_size is None else f"lpf{entry.filter_size}"
        one = listed[f"{entry.model}:{size}:{entry.recipe}"]
        assert one.group == ("plain" if entry.filter_size is None else "blurred")
    plain = {spec.split(":")[0] for spec, one in listed.items() if one.group == "plain"}
    assert {entry.model for entry in entries} <= plain


def test_timm_has_weights_for_every_network_listed_of_it() -> None:
    timm = pytest.importorskip("timm")
    names = [one.spec.removeprefix("timm:") for one in leaderboard.read_models(MODELS) if one.spec.startswith("timm:")]
    assert len(names) >= 25
    assert set(names) <= set(timm.list_pretrained())


def test_version_1_of_the_protocol_is_this() -> None:
    """Whoever changes what is drawn or shown raises PROTOCOL_VERSION, and pins the new version here."""
    drawn = [draw_pairs(torch.arange(50), range(32)), draw_pairs(torch.arange(50), range(-32, 32), stream=1)]
    facts = [imagenet(with_room(Preprocessing(235, 224))).describe(), cifar().describe()]
    text = json.dumps([[pairs.tolist() for pairs in drawn], facts])
    assert (PROTOCOL_VERSION, hashlib.sha256(text.encode()).hexdigest()[:16]) == (1, "9465e373a278e6c7")
