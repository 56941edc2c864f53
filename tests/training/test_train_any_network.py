"""scripts/train.py with networks of other libraries: it trains, and evaluate.py measures what it wrote."""

import json
import sys

import pytest
import torch
import train
from tiny_training import make_images

from antialiased_zoo.evaluation import Accuracy, Options, cifar, evaluate, load_named, match_classes, open_images
from antialiased_zoo.training import PRESETS

TINY = ["--eval-resize", "32", "--eval-crop", "32", "--batch-size", "4", "--workers", "0", "--device", "cpu"]


@pytest.fixture
def script():
    yield train
    torch.set_flush_denormal(False)  # the script sets it for its process


def test_a_foreign_network_is_trained_and_measured(script, tmp_path):
    pytest.importorskip("timm")
    data = make_images(tmp_path / "data", train=8)
    out = tmp_path / "run"
    options = [
        "--filter-size",
        "3",
        "--preset",
        "cifar10",
        "--sizes",
        "32x2",
        "--lr",
        "0.01",
        "--mean",
        ".4",
        ".4",
        ".4",
    ]
    script.main(["timm:test_resnet", *options, *TINY, "--data", str(data), "--out", str(out), "--no-progress"])
    (weights,) = out.glob("timm_test_resnet_lpf3_cifar10-*.safetensors")
    entry = json.loads(weights.with_suffix(".json").read_text())["entry"]
    assert entry["preprocessing"]["mean"] == [0.4] * 3
    named = load_named(f"timm:test_resnet:lpf3:{weights}", num_classes=1000)
    assert (named.stated_by, named.preprocessing.mean) == ("the record next to its weights", (0.4, 0.4, 0.4))
    images = open_images(data / "val")
    index = match_classes(images.classes, 2, named.classes).index
    found = evaluate(
        {"it": named.model}, images, lambda: {"a": Accuracy()}, cifar(named.preprocessing), Options(), {"it": index}
    )
    assert round(found.figures("it")["top1"]["value"], 2) == entry["metrics"]["acc1"]


def test_epochs_keep_the_shares_of_the_image_sizes(script):
    recipe = PRESETS["cifar10"]
    assert recipe.with_epochs(31) == recipe
    assert recipe.with_epochs(62).sizes == ((40, 10), (48, 12), (64, 40))
    for epochs in range(3, 40):
        changed = recipe.with_epochs(epochs)
        assert changed.epochs == epochs
        assert min(n for _, n in changed.sizes) >= 1
    with pytest.raises(ValueError, match="2 epochs are fewer"):
        recipe.with_epochs(2)
    args = script.parse(
        ["m", "--filter-size", "3", "--data", "d", "--out", "o", "--preset", "imagenet-resnet", "--epochs", "7"]
    )
    assert script.recipe_of(args).sizes == ((224, 7),)


def test_settings_have_the_names_of_timm_and_torchvision(script):
    theirs = ["--output", "o", "--data-dir", "d", "--wd", "0.1", "--smoothing", "0.2", "--model-ema-decay", "0.9"]
    theirs += ["--model-kwargs", "width=2", "--amp", "--amp-dtype", "bfloat16"]
    ours = ["--out", "o", "--data", "d", "--weight-decay", "0.1", "--label-smoothing", "0.2", "--ema", "0.9"]
    ours += ["--model-args", "width=2", "--amp", "bfloat16"]
    both = [script.parse(["m", "--filter-size", "3", "--preset", "cifar10", *names]) for names in (theirs, ours)]
    assert both[0] == both[1]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("resnet18", ["--device", "gpu"], "device 'gpu' cannot be used here"),
        ("timm:no_such_model", [], "timm:no_such_model: "),
        ("resnet18", ["--init", "nowhere.pth"], "no weights file nowhere.pth"),
        ("fixed_head:build", [], "has 5 outputs, the data 2 classes"),
        ("resnet18", ["--epochs", "3", "--sizes", "32x2"], "give only one of"),
        ("timm:resnet18:lpf3", [], "give filter and weights as options"),
    ],
)
def test_what_cannot_be_trained_is_one_line(script, tmp_path, monkeypatch, model, options, message):
    (tmp_path / "fixed_head.py").write_text(
        "from torch import nn\n\ndef build():\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "fixed_head", raising=False)
    data = make_images(tmp_path / "data", train=8)
    common = ["--filter-size", "none", "--preset", "cifar10", "--data", str(data), "--out", str(tmp_path / "run")]
    with pytest.raises((ValueError, ImportError, OSError)) as raised:
        script.main([model, *common, *TINY, *options, "--no-progress"])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
