"""The demo and `predict` on the packaged ImageNet pair, with no network; and the demo's statistics."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import antialiased_zoo as az
from antialiased_zoo import cli
from antialiased_zoo.cli import demo
from antialiased_zoo.evaluation import imagenet, read_photo
from antialiased_zoo.weights import Preprocessing


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No connection can be made, and the cache is empty."""

    def refused(*_: object) -> None:
        raise OSError("the test allows no network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))


def test_views_are_the_centre_and_the_corners() -> None:
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(100), np.arange(60)[:, None]
    centre, *corners = demo.views(Image.fromarray(pixels))
    assert (centre.size, centre.getpixel((0, 0))[:2]) == ((60, 60), (20, 0))
    assert {corner.size for corner in corners} == {(42, 42)}
    assert {corner.getpixel((0, 0))[:2] for corner in corners} == {(0, 0), (0, 18), (58, 0), (58, 18)}


class Dot(nn.Module):
    """Its answers depend on one pixel, so every step counts."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0, 3, 3], -x[:, 1, 3, 3], x[:, 2, 5, 5]], 1)


def test_the_statistics_are_as_stated() -> None:
    noise = np.random.default_rng(0)
    photos = [Image.fromarray(noise.integers(0, 256, (60, 80, 3), np.uint8)) for _ in range(3)]
    protocol = imagenet(Preprocessing(48, 16))
    found = demo.judge(Dot(), photos, protocol, progress=False)
    for photo, changed, step in zip(photos, found.changed, found.step, strict=True):
        canvas = protocol.normalise(torch.stack([protocol.prepare(view) for view in demo.views(photo)]))
        answers = [Dot()(canvas[:, :, d : d + 16, d : d + 16]).softmax(1) for d in range(12, 21)]
        classes = torch.stack([answer.argmax(1) for answer in answers])
        assert changed == pytest.approx(float((classes[1:] != classes[:-1]).float().mean()))
        followed = torch.stack([answer[torch.arange(5), classes[4]] for answer in answers])
        assert step == pytest.approx(float((followed[1:] - followed[:-1]).abs().mean()), rel=1e-5)
    assert min(found.changed) > 0
    still = demo.Judgement([0.0, 0.0, 0.25], [0.0] * 3)
    figures = demo.figures({"a": found, "b": still})
    assert figures["difference"]["changed"].value == pytest.approx(100 * (0.25 - sum(found.changed)) / 3)
    assert figures["difference"]["step"].high <= 0 or figures["difference"]["step"].low < 0
    assert "difference" in demo.table(figures)


def test_it_runs_offline_and_draws(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "PHOTOS", ("coffee.png", "rocket.jpg"))
    monkeypatch.setattr(demo, "_POSITIONS", range(15, 18))
    output = tmp_path / "picture.png"
    assert cli.main(["demo", "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "antialiased (Tri-4)" in printed
    assert "2 photos, 5 views of each, 2 steps of one pixel" in printed
    assert Image.open(output).size[0] > 1000
    assert cli.main(["demo", "--label", "no such thing"]) == 1
    assert "is not one of ImageNet's 1000 classes, for example tabby" in capsys.readouterr().err


@pytest.mark.parametrize("size", [None, 4])
def test_the_packaged_pair_knows_a_cat(offline: None, size: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    model = az.efficientnet_lite0(size, pretrained=True).eval()
    entry = az.get_entry("efficientnet_lite0", size)
    assert (entry.recipe, entry.license.name) == ("imagenet" if size is None else "distilled", "Apache-2.0")
    image = entry.preprocessing.build()(read_photo(demo.photo_path(demo.CURVE)))
    with torch.inference_mode():
        assert int(model(image[None]).argmax()) in range(281, 286)  # ImageNet's five house cats


def test_predict_needs_no_network(offline: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", str(demo.photo_path(demo.CURVE)), "--top", "1"]) == 0
    assert {"cat", "tabby"} & set(capsys.readouterr().out.replace(",", " ").split()[1:])


def test_true_never_gives_weights_of_another_filter(offline: None) -> None:
    with pytest.raises(ValueError, match=r"no default weights for efficientnet_lite0 with filter_size=3\. There are"):
        az.efficientnet_lite0(3, pretrained=True)
