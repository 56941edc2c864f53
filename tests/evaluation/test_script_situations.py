"""Situations that a researcher meets with scripts/evaluate.py: each ends in the right figure or in one line."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluate import main
from forked import of_script, run_code
from noisy_images import Counting
from PIL import Image

from antialiased_zoo.evaluation import PROBES, Accuracy, Consistency, cifar, evaluate, imagenet, loop, open_images
from antialiased_zoo.evaluation.images import LabelledImages
from antialiased_zoo.evaluation.probes import TITLES
from antialiased_zoo.metrics import draw_pairs
from antialiased_zoo.weights import Preprocessing

ROOT = Path(__file__).parents[2]
IDS = ["n01440764", "n01443537", "n15075141"]
MODELS = """
import torch
from torch import nn
from antialiased_zoo.evaluation import Probe
from antialiased_zoo.evaluation.views import centre_view
from antialiased_zoo.metrics import Meter

def net(num_classes=3, seed=0):
    torch.manual_seed(seed)
    body = [nn.Conv2d(3, 16, 3, stride=4), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.LayerNorm(16)]
    return nn.Sequential(*body, nn.Linear(16, num_classes))

def another():
    return net(seed=3)

def thousand():
    return net(1000)

def detector():
    return nn.Conv2d(3, 8, 1)

def stated():
    model = net()
    config = {"input_size": (3, 40, 40), "crop_pct": 0.5, "interpolation": "bicubic", "mean": (.4, .4, .4)}
    model.default_cfg = {**config, "std": (.2, .2, .2)}
    return model

class Confidence(Probe):
    needs_targets = False
    titles = {"confidence": "confidence"}

    def __init__(self):
        super().__init__()
        self.meters["confidence"] = Meter("mean")

    def views(self, indices, protocol):
        return centre_view(protocol).expand(len(indices), 1, 3)

    def update(self, logits, targets):
        self.meters["confidence"].update(logits[:, 0].softmax(-1).amax(-1))
"""


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for index in range(12):
        place = tmp_path / "images" / IDS[index % 3]
        place.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (90, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{index:02}.png")
    return tmp_path / "images"


@pytest.fixture
def script(tmp_path, monkeypatch):
    (tmp_path / "situations.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "situations", raising=False)
    return main


FEW = ["--resize", "80", "--crop", "40", "--device", "cpu", "--workers", "0", "--no-progress"]


SAME = ["--classes", "same-order"]
FEATURES = ["situations:net", *FEW, *SAME, "--metrics", "features", "accuracy"]


def record(script, folder, out, *options):
    script([*options, "--data", str(folder), "--out", str(out), "--no-digest"])
    return json.loads((out / "results.json").read_text())["models"]


def test_what_a_model_states_is_used_and_said(folder, tmp_path, script, capsys):
    options = ["--device", "cpu", "--workers", "0", "--no-progress", "--metrics", "accuracy"]
    found = record(script, folder, tmp_path / "out", "one=situations:stated", *options)["one"]
    protocol = found["protocol"]
    assert (protocol["resize"], protocol["crop"], protocol["interpolation"]) == (80, 40, "bicubic")
    assert (protocol["mean"], protocol["std"]) == ([0.4] * 3, [0.2] * 3)
    said = "one: resize 80, crop 40, bicubic, mean 0.4 0.4 0.4, std 0.2 0.2 0.2 (its default_cfg); protocol imagenet"
    assert said in capsys.readouterr().err
    flags = ["--mean", "0.1", "0.1", "0.1", "--std", "1", "1", "1", "--interpolation", "nearest", "--crop-pct", "0.8"]
    found = record(script, folder, tmp_path / "out", "one=situations:stated", *options, *flags)["one"]
    protocol = found["protocol"]
    assert (protocol["resize"], protocol["mean"], protocol["interpolation"]) == (50, [0.1] * 3, "nearest")
    assert found["preprocessing_from"] == "its default_cfg, --mean, --std, --interpolation, --crop-pct"


def test_consistency_needs_no_class_folders(folder, tmp_path, script):
    for path in sorted(folder.glob("*/*.png")):
        path.rename(folder / path.name)
        path.parent.rmdir() if not list(path.parent.iterdir()) else None
    with pytest.raises(ValueError, match="or give their labels"):
        script(["a=situations:net", *FEW, "--data", str(folder)])
    found = record(script, folder, tmp_path / "out", "a=situations:net", *FEW, "--metrics", "circular")["a"]
    assert found["images"] == 12
    assert list(found["figures"]) == ["circular_consistency"]


def test_wordnet_folders_are_matched_with_imagenets_outputs(folder, tmp_path, script):
    found = record(script, folder, tmp_path / "out", "t=situations:thousand", *FEW, "--metrics", "accuracy")["t"]
    assert found["classes"] == "by wordnet id"
    model = sys.modules["situations"].thousand().eval()
    images, outputs = open_images(folder, Preprocessing(80, 40).build()), [0, 1, 999]
    with torch.inference_mode():
        right = [int(model(image[None]).argmax()) == outputs[target] for image, target in images]
    assert found["figures"]["top1"]["value"] == pytest.approx(100 * np.mean(right))


def test_a_model_can_label_the_images(folder, tmp_path, script, capsys):
    options = ["b=situations:another", *FEW, "--metrics", "accuracy", "--agree-with", "a=situations:net"]
    found = record(script, folder, tmp_path / "out", *options)["b"]
    images, module = open_images(folder, Preprocessing(80, 40).build()), sys.modules["situations"]
    batch = torch.stack([image for image, _ in images])
    with torch.inference_mode():
        same = [model(batch).argmax(1) for model in (module.net().eval(), module.another().eval())]
    assert found["figures"]["top1"]["value"] == pytest.approx(100 * float((same[0] == same[1]).float().mean()))
    assert 0 < found["figures"]["top1"]["value"] < 100
    assert "top-1 is agreement with a=situations:net" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["situations:net", *FEW, "--agree-with", "situations:thousand"], "other classes than situations:thousand"),
        (["situations:net", *FEW, "--agree-with", "situations:net", "--labels", "x"], "leave out --labels"),
        (["situations:net", *FEW, "--agree-with", "situations:net", "--metrics", "crop"], "none of the --metrics"),
        (["situations:thousand", *FEW], "the model has 1000 classes, the data 3"),
        (["situations:net", *FEW, "--device", "gpu"], "device 'gpu' cannot be used here"),
        (["situations:net", *FEW, "--device", "cuda:99"], "device 'cuda:99' cannot be used here"),
        (
            ["situations:net", *FEW, "--metrics", "diagonal", "--classes", "same-order", "--curve-image", "99"],
            r"--curve-image 99: the 12 images that are measured are numbered 0, 1, 2 \.\.\. 11",
        ),
        (["situations:net", *FEW, "--paper", "--pairs", "7"], "--paper draws 5 pairs of crops"),
        (["situations:net", *FEW, "--paper", "--seed", str(2**32)], "takes seeds from 0 to 2"),
        ([*FEATURES, "--layers", "0", "9"], r"situations:net: no layers named \['9'\]"),
        ([*FEATURES, "--layers", "4"], "layer 4 does not return"),
        (["situations:net", *FEW, *SAME, "--imagenet-c", "nowhere"], "no corruption folders in nowhere"),
        (["situations:net", *FEW, *SAME, "--imagenet-p", "nowhere"], "nowhere"),
        (["situations:detector", *FEW], "does not map an image of 40 pixels to logits"),
        (["situations:net", *FEW, "--metrics", "nonsense"], "'nonsense' is not a measure; there are accuracy, crop"),
        (["situations:net", *FEW, "--crop-pct", "0.9"], "give only one of them"),
        (["situations:net", "--crop", "80", "--resize", "80"], "choose --protocol imagenet"),
        (["situations:net", "--crop", "80", "--resize", "90"], "resized to 112 or more, not 90"),
        (["situations:net", *FEW, "--classes", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_what_cannot_be_measured_is_one_line(folder, script, options, message, monkeypatch):
    for number, place in enumerate(sorted(folder.iterdir())):
        place.rename(folder / f"class {number}")  # names that ImageNet does not have
    monkeypatch.setattr(loop, "batches", None)  # nothing is decoded before
    with pytest.raises((ValueError, OSError), match=message) as raised:
        script([*options, "--data", str(folder), "--workers", "0", "--no-progress"])
    assert "\n" not in str(raised.value)


def test_errors_are_one_line_for_the_user(folder, tmp_path):
    command = ["resnet18:baseline", "--data", str(folder), "--device", "gpu"]
    done = run_code(of_script(ROOT / "scripts" / "evaluate.py", *command), tmp_path)
    assert done.returncode != 0
    assert done.stderr.startswith("evaluate.py: device 'gpu' cannot be used here")
    assert done.stderr.count("\n") == 1


def test_any_seed_is_taken(folder, tmp_path, script):
    large = ["--seed", str(2**128 + 5), "--metrics", "crop", "circular", "corruption", *SAME]
    found = [record(script, folder, tmp_path / "out", "a=situations:net", *FEW, *large)["a"] for _ in range(2)]
    assert found[0]["figures"] == found[1]["figures"]


def test_a_measure_comes_from_outside(folder, tmp_path, script):
    metrics = ["--metrics", "situations:Confidence", "circular"]
    try:
        found = record(script, folder, tmp_path / "out", "one=situations:net", *FEW, *metrics)["one"]
    finally:
        PROBES.pop("situations:Confidence", None)
        TITLES.pop("confidence", None)
    model = sys.modules["situations"].net().eval()
    images = open_images(folder, Preprocessing(80, 40).build())
    with torch.inference_mode():
        expected = np.mean([float(model(image[None]).softmax(1).max()) for image, _ in images])
    assert found["figures"]["confidence"]["value"] == pytest.approx(100 * expected, abs=1e-3)
    assert "| model | circular consistency (%) | confidence (%) |" in (tmp_path / "out" / "table.md").read_text()


EVERYTHING = [*FEW, "--metrics", "accuracy", "crop", "diagonal", "features", "--feature-images", "12"]


@pytest.mark.parametrize("more", [[], ["--agree-with", "situations:another"]])
def test_an_image_that_cannot_be_decoded_is_left_out_of_everything(folder, tmp_path, script, capsys, more):
    bad = folder / IDS[0] / "00.png"  # the first, of which the curve would be drawn
    bad.write_bytes(bad.read_bytes()[:300])
    options = ["a=situations:net", *EVERYTHING, *([] if more else SAME), *more]
    found = record(script, folder, tmp_path / "out", *options)["a"]
    assert (found["images"], len(found["skipped"])) == (11, 1)
    assert "00.png" in found["skipped"][0]
    assert {figure["n"] for figure in found["figures"].values()} == {11}
    assert found["feature_distance"]["0"]["n"] == 11
    assert "curve" not in found
    assert "no stability curve: cannot decode" in capsys.readouterr().err
    bad.unlink()
    whole = record(script, folder, tmp_path / "whole", *options)["a"]
    assert whole["figures"]["top1"] == found["figures"]["top1"]
    assert whole["curve"]["image"].endswith("03.png")


def test_figures_are_reported_even_if_what_follows_fails(folder, tmp_path, script, capsys, monkeypatch):
    out = tmp_path / "out"
    for name, metrics in (("feature_maps", "features"), ("stability_curves", "diagonal")):

        def fail(*_, **__):
            raise RuntimeError("out of memory")

        monkeypatch.setitem(script.__globals__, name, fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            record(script, folder, out, "a=situations:net", *FEW, *SAME, "--metrics", "accuracy", metrics)
        figures = json.loads((out / "results.json").read_text())["models"]["a"]["figures"]
        assert figures["top1"]["n"] == 12
        assert "| a | " in capsys.readouterr().out
        (out / "results.json").unlink()


def test_an_interrupted_run_reports_at_once(folder, tmp_path, script, capsys, monkeypatch):
    """Ctrl-C started to read all data, for the digest."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setitem(script.__globals__, "stability_curves", interrupt)
    monkeypatch.setattr(LabelledImages, "digest", interrupt)
    words = ["a=situations:net", *FEW, *SAME, "--metrics", "accuracy", "diagonal", "--data", str(folder)]
    with pytest.raises(KeyboardInterrupt):
        script([*words, "--out", str(tmp_path / "out")])
    assert json.loads((tmp_path / "out" / "results.json").read_text())["models"]["a"]["figures"]["top1"]["n"] == 12
    assert "| a | " in capsys.readouterr().out
    assert (tmp_path / "out" / "table.md").exists()


def test_some_of_the_images_keep_their_shifts(folder, tmp_path, script):
    """Pairs depend on an image's index in the whole data set."""
    from situations import net

    model, images, expected = net().eval(), open_images(folder), {}
    some = [0, 2, 4, 7, 9]
    assert some == [place * 12 // 5 for place in range(5)]
    wide, centre = Preprocessing(72, 72).build(), Preprocessing(72, 40).build()
    options = ["--resize", "72", "--crop", "40", *FEW[4:], *SAME, "--limit", "5", "--curve-image", "7"]
    metrics = ["--metrics", "crop", "circular", "diagonal"]
    for seed in (0, 3):
        crops, rolls = [], []
        with torch.no_grad():
            for index in some:
                image, numbers = images[index][0], torch.tensor([index])
                pair = draw_pairs(numbers, range(32), seed=seed)[0, 0].tolist()
                a, b = (model(wide(image)[None, :, y : y + 40, x : x + 40]).argmax() for y, x in pair)
                crops.append(bool(a == b))
                pair = draw_pairs(numbers, range(-32, 32), seed=seed, stream=1)[0, 0].tolist()
                a, b = (model(torch.roll(centre(image)[None], (y, x), (2, 3))).argmax() for y, x in pair)
                rolls.append(bool(a == b))
        found = record(script, folder, tmp_path / "out", "a=situations:net", *options, *metrics, "--seed", str(seed))[
            "a"
        ]
        expected[seed] = [100 * np.mean(crops), 100 * np.mean(rolls)]
        shown = [found["figures"][f"{kind}_consistency"]["value"] for kind in ("crop", "circular")]
        assert shown == pytest.approx(expected[seed])
        assert found["curve"]["image"] == images.samples[7]
    assert expected[0] != expected[3]
    with pytest.raises(ValueError, match=r"numbered 0, 2, 4 \.\.\. 9"):
        script(["a=situations:net", *options[:-1], "1", *metrics, "--data", str(folder)])


def test_models_of_several_protocols_share_one_decoding(folder, script):
    """The figures of models together are those of each alone, and no image is decoded twice."""
    from situations import net, stated

    def probes():
        return {"accuracy": Accuracy(), "crop": Consistency("crop")}

    protocols = {"a": imagenet(Preprocessing(80, 40)), "b": imagenet(Preprocessing(90, 40)), "c": cifar()}
    models = {"a": net().eval(), "b": stated().eval(), "c": net().eval()}
    data = Counting(open_images(folder))
    together = evaluate(models, data, probes, protocols)
    assert sorted(data.asked) == list(range(12))
    for label in models:
        alone = evaluate({label: models[label]}, open_images(folder), probes, protocols[label])
        assert alone.figures(label) == together.figures(label)
        assert alone.views[label] == together.views[label]
    change = together.differences("b", "a")["crop_consistency"]
    assert change.value == pytest.approx(
        together.figures("b")["crop_consistency"]["value"] - together.figures("a")["crop_consistency"]["value"]
    )
