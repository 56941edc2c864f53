"""``timm:NAME``: networks that timm builds, with files that this package fetches and verifies."""

from __future__ import annotations

import copy
import hashlib
import math
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from manifests import text_of
from plain_server import served
from safetensors.torch import save_file
from torch import nn

import antialiased_zoo as az
from antialiased_zoo.errors import CheckpointError, ManifestError, UnknownWeightsError
from antialiased_zoo.weights import TIMM, manifest

NAME = "timm:densenetblur121d"


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("densenetblur121d").eval()


@pytest.fixture(scope="module")
def folder(theirs: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tensors as safetensors and as a pickle, a file of another network, one with NaN."""
    folder = tmp_path_factory.mktemp("timm")
    state = theirs.state_dict()
    save_file(state, folder / "mine.safetensors")
    torch.save(state, folder / "pickled.pth")
    save_file({name: state[name] for name in list(state)[:-2]}, folder / "short.safetensors")
    save_file(state | {"classifier.bias": torch.full((1000,), math.nan)}, folder / "nan.safetensors")
    return folder


@pytest.fixture(autouse=True)
def listed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with served(folder) as url:
        entries = [
            {
                "model": NAME,
                "filter_size": None,
                "recipe": path.stem,
                "file": path.name,
                "format": "safetensors" if path.suffix == ".safetensors" else "pickle",
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "sources": [f"{url}/{path.name}"],
                "license": "MIT",
                "dataset": "none",
                "num_classes": 1000,
                "preprocessing": {},
            }
            for path in sorted(folder.iterdir())
        ]
        own = tmp_path / "manifest.json"
        own.write_text(text_of(*entries))
        monkeypatch.setenv("ANTIALIASED_ZOO_MANIFEST", str(own))
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
        yield


@pytest.mark.parametrize("recipe", ["mine", "pickled"])
@torch.no_grad()
def test_answers_are_timms_bit_for_bit(theirs: nn.Module, recipe: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = az.create_model(NAME, pretrained=recipe, progress=False).eval()
    image = torch.randn(2, 3, 64, 96)
    assert type(ours) is type(theirs)
    assert torch.equal(ours(image), theirs(image))
    assert "state_dict" not in ours.pretrained_cfg


@torch.no_grad()
def test_head_and_channels_are_renewed_as_timm_does(theirs: nn.Module, folder: Path) -> None:
    ours = az.create_model(NAME, pretrained="mine", num_classes=3, in_chans=1, progress=False).eval()
    same = timm.create_model(
        "densenetblur121d", True, in_chans=1, pretrained_cfg_overlay={"file": str(folder / "mine.safetensors")}
    )
    image = torch.randn(1, 1, 64, 64)
    assert ours(image).shape == (1, 3)
    assert torch.equal(ours.forward_features(image), same.eval().forward_features(image))


@torch.no_grad()
def test_a_file_of_ones_own(theirs: nn.Module, folder: Path) -> None:
    ours = az.create_model(NAME, pretrained=folder / "mine.safetensors").eval()
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(ours(image), theirs(image))


@torch.no_grad()
def test_no_head(theirs: nn.Module, folder: Path, tmp_path: Path) -> None:
    image = torch.randn(1, 3, 64, 64)
    assert az.create_model(NAME, num_classes=0).eval()(image).shape == (1, 1024)
    theirs = copy.deepcopy(theirs)
    theirs.reset_classifier(0)
    save_file(theirs.state_dict(), tmp_path / "headless.safetensors")
    for pretrained in ("mine", folder / "mine.safetensors", tmp_path / "headless.safetensors"):
        ours = az.create_model(NAME, pretrained=pretrained, num_classes=0, progress=False).eval()
        assert torch.equal(ours(image), theirs(image))


@pytest.mark.parametrize("name", [NAME, "resnet18"])
def test_arguments_are_checked_before_anything_is_fetched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antialiased_zoo.weights.hub.fetch", lambda *_, **__: pytest.fail("fetched"))
    for wrong in ({"num_classes": -1}, {"num_classes": True}, {"num_classes": "3"}, {"in_chans": 0}):
        with pytest.raises((ValueError, TypeError), match=f"{next(iter(wrong))} must be"):
            az.create_model(name, pretrained=True, **wrong)
    for wrong in ({"out_indices": (1,)}, {"out_map": "norm"}):
        with pytest.raises(ValueError, match="need features_only=True"):
            az.create_model(name, pretrained=True, **wrong)
    for pretrained in ("", 1, None):
        with pytest.raises((ValueError, TypeError), match="a recipe's name or a path"):
            az.create_model(name, pretrained=pretrained)


def test_what_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"short.safetensors does not fit timm:densenetblur121d: .*classifier"):
        az.create_model(NAME, pretrained="short", progress=False)
    with pytest.raises(CheckpointError, match="NaN"):
        az.create_model(NAME, pretrained="nan", progress=False)
    with pytest.raises(UnknownWeightsError, match="ra_in1k"):
        az.create_model(NAME, pretrained="other")
    with pytest.raises(ValueError, match="similar: densenetblur121d"):
        az.create_model("timm:densenetblur121")
    with pytest.raises(ValueError, match="omit filter_size"):
        az.create_model(NAME, 3)
    with pytest.raises(ValueError, match="forward_intermediates"):
        az.create_model(NAME, features_only=True)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="pip install timm"):
        az.create_model(NAME)


def test_entries_state_what_timm_states() -> None:
    entries = [entry for entry in manifest.load([manifest.own_path()]) if entry.model.startswith(TIMM)]
    assert len(entries) == 5
    for entry in entries:
        name = f"{entry.model.removeprefix(TIMM)}.{entry.recipe}"
        config = timm.get_pretrained_cfg(name)
        stated = entry.preprocessing
        assert config is not None, name
        assert (stated.crop, stated.interpolation) == (config.input_size[-1], config.interpolation)
        assert stated.resize == math.floor(stated.crop / config.crop_pct)
        assert (stated.mean, stated.std) == (config.mean, config.std)
        assert stated.test_crop == (config.test_input_size[-1] if config.test_input_size else None)
        assert entry.license.name.lower() == config.license
        assert entry.num_classes == config.num_classes


def test_a_filter_size_contradicts_it() -> None:
    record = {"model": NAME, "filter_size": 3, "recipe": "x"}
    with pytest.raises(ManifestError, match="no blurs are added to timm's networks: write null"):
        manifest.parse(text_of(record))
