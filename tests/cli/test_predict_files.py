"""What ``predict`` makes of weights in files and folders."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

import antialiased_zoo as az
from antialiased_zoo import cli
from antialiased_zoo.weights import Preprocessing


def test_weights_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import antialiased_zoo.weights as room

    packaged = next((Path(room.__file__).parent / "packaged").glob("mobilenet_v2_lpf4*.safetensors"))
    own = tmp_path / "mine.safetensors"
    own.write_bytes(packaged.read_bytes())
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    arguments = ["predict", str(tmp_path / "a.png"), "--json", "--weights"]
    answers = []
    for weights in ("mobilenet_v2:lpf4:cifar10", str(packaged), str(own)):
        more = ["--model", "mobilenet_v2:lpf4:cifar10"] if weights == str(own) else []
        assert cli.main([*arguments, weights, *more]) == 0
        answers.append(json.loads(capsys.readouterr().out)["predictions"])
    assert answers[0] == answers[1] == answers[2]


def test_the_network_of_a_file_is_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not one with a new, untrained head; a file that states its network needs no --model."""
    photo = Image.new("L", (90, 80), 70)
    photo.save(tmp_path / "a.png")
    names = ("cat", "dog", "emu")
    preprocessing = Preprocessing(resize=64, crop=64, mean=(0.2,), std=(0.5,))
    network = az.resnet18(3, num_classes=3, in_chans=1).eval()
    network.save_pretrained(tmp_path / "saved", classes=names, preprocessing=preprocessing)
    torch.save({f"module.{name}": tensor for name, tensor in network.state_dict().items()}, tmp_path / "plain.pth")

    def expected(seen: Preprocessing, names: Sequence[str]) -> dict[str, float]:
        with torch.no_grad():
            return dict(zip(names, network(seen.build()(photo)[None]).softmax(1)[0].tolist(), strict=True))

    def answer(weights: str, *more: str) -> dict[str, float]:
        assert (
            cli.main(["predict", str(tmp_path / "a.png"), "--json", "--weights", str(tmp_path / weights), *more]) == 0
        )
        found = json.loads(capsys.readouterr().out)["predictions"]
        return {one["label"]: one["probability"] for one in found}

    stated = pytest.approx(expected(preprocessing, names))
    assert answer("saved") == stated
    assert answer("saved/model.safetensors") == stated
    assert set(answer("saved", "--model", "resnet18:lpf3")) == set(names)
    usual = expected(Preprocessing().for_channels(1), ("class 0", "class 1", "class 2"))
    assert answer("plain.pth", "--model", "resnet18:lpf3") == pytest.approx(usual)

    refused = ["predict", str(tmp_path / "a.png"), "--weights"]
    assert cli.main([*refused, str(tmp_path / "plain.pth")]) == 1
    assert "does not state its network: give it, for example --model" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made_by_adapt").mkdir()
    assert cli.main([*refused, "made_by_adapt"]) == 1  # said that no network has this name
    assert "made_by_adapt has no model.safetensors" in capsys.readouterr().err
    assert cli.main([*refused, str(tmp_path / "saved"), "--classes", "10"]) == 1
    assert "has 3 classes, expected --classes 10" in capsys.readouterr().err
    for option in (("--classes", "7"), ("--model", "resnet18")):
        assert cli.main([*refused, "mobilenet_v2:lpf4:cifar10", *option]) == 1
        assert "states its network and classes: --model and --classes describe a FILE" in capsys.readouterr().err
    assert cli.main([*refused, str(tmp_path / "none.pth")]) == 1
    assert "there is no file or folder" in capsys.readouterr().err
