"""``antialiased-zoo compare`` and ``plan``: what they print is what the library computes."""

import json
import operator
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image

import antialiased_zoo as az
from antialiased_zoo import cli
from antialiased_zoo.weights import get_entry

NETS = """
import torch
from torch import nn

def strided():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3), nn.ReLU())

def thousand():
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 1000))

def audio():
    return nn.Sequential(nn.Conv1d(1, 8, 9, padding=4), nn.ReLU(), nn.MaxPool1d(4))

def volume():
    return nn.Sequential(nn.Conv3d(2, 8, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2))

class Segmenter(nn.Module):
    def forward(self, x):
        return {"out": x}

class Edge(nn.Module):
    '''Class 1 if the left column is brighter than a half: its answer changes where an edge passes.'''
    pretrained_cfg = {"input_size": (3, 96, 96), "crop_pct": 0.75, "mean": (0.5,) * 3, "std": (0.5,) * 3}

    def forward(self, x):
        bright = x[:, 0, :, 0].mean(1)
        return torch.stack([-bright, bright, torch.full_like(bright, -9)], 1)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets_of_mine.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", ".")])
    monkeypatch.delitem(sys.modules, "nets_of_mine", raising=False)
    return tmp_path


@pytest.fixture
def photo(here: Path) -> str:
    """Half black, half white: 128 pixels as the network's canvas, and so not resized."""
    image = Image.new("RGB", (128, 128))
    image.paste((255, 255, 255), (20, 0, 128, 128))
    image.save(here / "edge.png")
    return "edge.png"


def test_compare_counts_changes_and_draws(photo: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    words = ["compare", "a=nets_of_mine:Edge", "b=nets_of_mine:Edge", photo]
    assert cli.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    one = found["models"][0]
    # Corners at 0 .. 32: black up to 19, white from 20 on; the middle, 16, is black.
    assert (found["shifts"], found["class"], one["answer"]) == (32, "class 0", "class 0")
    assert one["changed"] == pytest.approx(100 / 32)
    sure = torch.tensor([1.0, -1.0, -9.0]).softmax(0)
    assert one["probability"][:20] == pytest.approx([float(sure[0])] * 20)
    assert one["wobble"] == pytest.approx(100 * float(sure[0] - sure[1]), abs=1e-3)
    assert cli.main([*words, "--shifts", "4", "--label", "class 1", "--plot", "out.png"]) == 0
    title, _, row, _ = capsys.readouterr().out.splitlines()
    assert title == 'edge.png, 4 steps of one pixel down and right; probability of "class 1"'
    assert row.split()[:3] == ["a", "0.0%", "0.0%"]  # corners at 14 .. 18: no edge
    assert (here / "out.png").read_bytes().startswith(b"\x89PNG")


def test_compare_takes_the_zoos_networks_with_their_weights(photo: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "efficientnet_lite0:baseline", "efficientnet_lite0", photo, "--shifts", "2"]
    assert cli.main([*command, "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    specs = ["efficientnet_lite0:baseline:imagenet", "efficientnet_lite0:lpf4:distilled"]
    assert [one["model"] for one in found["models"]] == specs
    transform = get_entry("efficientnet_lite0", 4).preprocessing.build()
    with torch.inference_mode():
        model = az.efficientnet_lite0(4, pretrained=True, progress=False).eval()
        expected = model(transform(Image.open(photo).convert("RGB"))[None]).softmax(1)[0]
    names = torchvision.models.AlexNet_Weights.IMAGENET1K_V1.meta["categories"]
    assert found["models"][1]["answer"] == names[int(expected.argmax())]
    middle = found["models"][1]["probability"][1]
    assert middle == pytest.approx(float(expected[names.index(found["class"])]), abs=1e-4)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--shifts", "33"], "--shifts must be 1 to 32"),
        (["--label", "dog"], "has no class 'dog', only class 0"),
    ],
)
def test_compare_says_what_is_wrong(
    more: list[str], message: str, photo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    assert cli.main(["compare", "a=nets_of_mine:Edge", "b=nets_of_mine:Edge", photo, *more]) == 1
    assert message in capsys.readouterr().err


def test_models_of_one_label_are_refused(photo: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "nets_of_mine:Edge", "nets_of_mine:Edge", photo]) == 1
    assert "LABEL=MODEL" in capsys.readouterr().err


def test_plan_prints_the_plan_of_a_network_in_this_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = list(sys.path)
    assert cli.main(["plan", "nets_of_mine:strided"]) == 0
    assert sys.path == before
    import importlib.util

    spec = importlib.util.spec_from_file_location("other_name", here / "nets_of_mine.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lines = capsys.readouterr().out.splitlines()
    assert "\n".join(lines[:-1]) == str(az.plan(module.strided()))
    assert lines[-1] == "1 of 1 strided ops get a blur"
    assert cli.main(["plan", "nets_of_mine:strided", "--input", "3x32x40"]) == 0
    assert str(az.plan(module.strided(), input_size=(1, 3, 32, 40)).totals) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spec", "network", "options"),
    [
        ("resnet18", "resnet18", {"stem_pool": "max2"}),  # as the zoo builds it
        ("torchvision:resnet18", "resnet18", {}),
    ],
)
def test_plan_downloads_nothing(
    spec: str,
    network: str,
    options: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert cli.main(["plan", spec]) == 0
    model = getattr(torchvision.models, network)()
    assert capsys.readouterr().out.startswith(str(az.plan(model, **options)))


def test_plan_reads_torchvisions_other_networks_and_fetches_no_backbone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It fetched the weights of the backbone, and then refused the network for not being a classifier."""
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda url, *_, **__: pytest.fail(f"fetches {url}"))
    for name in ("segmentation.lraspp_mobilenet_v3_large", "video.mc3_18"):
        assert cli.main(["plan", f"torchvision:{name.partition('.')[2]}"]) == 0
        network = operator.attrgetter(name)(torchvision.models)
        model = network(weights_backbone=None) if name.startswith("segmentation") else network()
        assert capsys.readouterr().out.startswith(str(az.plan(model)))


@pytest.mark.parametrize(
    ("name", "sizes", "batch"),
    [
        ("audio", "64", "1x1x64"),  # was 1x3x64x64
        ("audio", "1x64", "1x1x64"),  # was 1x3x1x64
        ("audio", "2x1x64", "2x1x64"),  # was 1x2x1x64
        ("volume", "8", "1x2x8x8x8"),
        ("volume", "8x16x16", "1x2x8x16x16"),
        ("volume", "2x8x16x16", "1x2x8x16x16"),  # was one volume of (2, 8, 16, 16)
    ],
)
def test_the_plans_input_has_the_networks_axes(
    name: str, sizes: str, batch: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", f"nets_of_mine:{name}", "--input", sizes]) == 0
    assert f"input {batch}: multiply-adds" in capsys.readouterr().out


def test_plan_says_what_is_wrong(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "nets_of_mine:missing"]) == 1
    assert "cannot import missing from module nets_of_mine" in capsys.readouterr().err


def test_compare_says_that_a_network_is_no_classifier(photo: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It was an AttributeError: 'dict' object has no attribute 'shape'."""
    assert cli.main(["compare", "a=nets_of_mine:Segmenter", "b=nets_of_mine:thousand", photo]) == 1
    assert "a does not map an image of 224 pixels to logits (1, classes): the model" in capsys.readouterr().err


def test_a_thousand_outputs_are_not_imagenets_unless_the_weights_say_so(
    photo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """They had ImageNet's names, whatever the network was trained on."""
    assert cli.main(["compare", "a=nets_of_mine:thousand", "b=nets_of_mine:thousand", photo, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["class"].startswith("class ")
