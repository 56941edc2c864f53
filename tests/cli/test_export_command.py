"""antialiased-zoo export: the file is written only if it computes what the network computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import antialiased_zoo as az
from antialiased_zoo import cli, inference

WEIGHTS = "mobilenet_v2:lpf4:cifar10"  # packaged


@pytest.mark.parametrize("dynamic", [[], pytest.param(["batch", "height"], marks=pytest.mark.slow)])
def test_a_photo_and_an_open_size(dynamic: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo, output, weights = (tmp_path / name for name in ("photo.png", "net.pt2", "own.pth"))
    Image.new("RGB", (48, 40), (90, 120, 200)).save(photo)
    net = az.resnet18(num_classes=10).eval()
    torch.save(net.state_dict(), weights)
    command = ["export", str(weights), "--model", "resnet18:lpf4", "--classes", "10", "--size", "64", "--format", "pt2"]
    command += ["--output", str(output), "--check", str(photo), "--json"]
    assert cli.main([*command, *(["--dynamic", *dynamic] if dynamic else [])]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["images"] for row in report["compared"]] == ["photo.png", *(["3x3x81x64"] if dynamic else [])]
    assert all(row["difference"] < 1e-5 and min(row["milliseconds"]) > 0 for row in report["compared"])
    assert report["compared"][0]["classes"][0] == report["compared"][0]["classes"][1]
    images = torch.randn(5, 3, 72, 64) if dynamic else torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(az.load_exported(output)(images), net(images), rtol=1e-4, atol=1e-4)
    assert sorted(tmp_path.iterdir()) == [output, weights, photo]


def test_what_differs_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "net.pt2"
    output.write_text("the one before")
    monkeypatch.setattr(inference, "export_model", lambda model, path, **_: path)
    for wrong in (1.0, float("nan")):
        monkeypatch.setattr(inference, "load_exported", lambda *_, wrong=wrong: lambda x: torch.full((1, 10), wrong))
        assert cli.main(["export", WEIGHTS, "--format", "pt2", "--output", str(output)]) == 1
        assert "nothing was written" in capsys.readouterr().err
    assert output.read_text() == "the one before"


def test_an_unreadable_photo_ends_it_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "photo.png"
    photo.write_text("no photo")
    assert cli.main(["export", WEIGHTS, "--output", str(tmp_path / "net.onnx"), "--check", str(photo)]) == 1
    assert "photo.png" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [photo]
