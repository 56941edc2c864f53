"""scripts/adapt.py as a user runs it, and the page that shows what it found."""

from __future__ import annotations

import json
from pathlib import Path

import adapt
import pytest
import torch
from tiny_training import make_images

import antialiased_zoo as az
from antialiased_zoo.evaluation import open_images
from antialiased_zoo.training.runs import RunFolder
from antialiased_zoo.weights import Preprocessing

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results" / "adapting" / "results.json"


def weights(folder: Path) -> Path:
    """A network of two classes, its preprocessing in the record beside it, as training leaves it."""
    torch.manual_seed(0)
    path = RunFolder(folder).save_weights(
        az.mobilenet_v2(None, num_classes=2).state_dict(), "mobilenet_v2_test", Preprocessing()
    )
    facts = {"resize": 12, "crop": 12, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}
    path.with_suffix(".json").write_text(json.dumps({"entry": {"preprocessing": facts, "classes": ["blue", "red"]}}))
    return path


def test_every_stage_is_measured_and_the_page_shows_it(tmp_path: Path) -> None:
    data, path, page = make_images(tmp_path / "data", train=12, val=5), weights(tmp_path / "run"), tmp_path / "page.md"
    page.write_text("before\n<!-- adapting -->\nold\n<!-- /adapting -->\nafter\n")
    options = ["--data", str(data), "--out", str(tmp_path / "out"), "--page", str(page), "--device", "cpu"]
    model = f"mobilenet_v2:baseline:{path}"
    adapt.main([model, f"again={model}", *options, "--images", "16", "--batch-size", "8", "--limit", "8"])
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(record["models"]) == ["as trained, no blur", "right after antialias()", "after recalibrate()", "again"]
    assert record["data"]["val_images"] == 8
    assert record["data"]["train_images"] == 16
    measured = open_images(data / "val")
    measured.thin_out(8)
    assert record["data"]["val"] == measured.digest()
    first, *_, again = record["models"].values()
    assert again["figures"] == first["figures"]
    assert again["differences"]["top1"]["value"] == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- adapting -->\n\n| model | top-1 (%) |")
    assert text.endswith("\n<!-- /adapting -->\nafter\n")
    assert adapt.table(record) in text
    assert "old" not in text


def test_an_antialiased_network_is_not_measured_as_one_without_blur(tmp_path: Path) -> None:
    data = make_images(tmp_path / "data", train=4, val=2)
    with pytest.raises(ValueError, match="mobilenet_v2:lpf4 is antialiased already"):
        adapt.main(["mobilenet_v2:lpf4", "--data", str(data), "--device", "cpu"])


def test_a_page_without_a_place_for_the_table_is_left_alone(tmp_path: Path) -> None:
    data, path, page = make_images(tmp_path / "data", train=4, val=2), weights(tmp_path / "run"), tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="has no <!-- adapting -->"):
        adapt.main([f"mobilenet_v2:baseline:{path}", "--data", str(data), "--page", str(page), "--device", "cpu"])
    assert page.read_text() == "nothing\n"


@pytest.mark.parametrize("record", [RESULTS, RESULTS.with_name("without_labels.json")])
def test_the_page_shows_the_record(record: Path) -> None:
    shown, page = adapt.table(json.loads(record.read_text())), (ROOT / "docs" / "adapting.md").read_text()
    assert " ".join(shown.split()) in " ".join(page.split())  # the page breaks long lines
