"""A network's tensors come back out of whatever a training framework wraps them in, or the error says why not."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from plain_server import served
from safetensors.torch import save_file
from torch import nn

import antialiased_zoo as az
from antialiased_zoo.errors import TensorMismatchError, UnsafePickleError

SMALL = {"width_mult": 0.25}


@pytest.fixture(scope="module")
def network() -> az.Backbone:
    torch.manual_seed(0)
    return az.mobilenet_v2(3, num_classes=7, **SMALL)


def plain(network: nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    """Tensors in a dict of its own, which says nothing of the network."""
    return {prefix + name: tensor for name, tensor in network.state_dict().items()}


def zeros(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}


#: What is saved, and whether it still says which network it belongs to.
WRAPPINGS: dict[str, tuple[Callable[[nn.Module], Any], bool]] = {
    "state dict": (lambda net: net.state_dict(), True),
    "state_dict": (lambda net: {"state_dict": net.state_dict(), "epoch": 3}, True),
    "model": (lambda net: {"model": net.state_dict(), "optimizer": {"state": {}}}, True),
    "model_state_dict": (lambda net: {"model_state_dict": plain(net), "loss": 0.5}, False),
    "DataParallel": (lambda net: nn.DataParallel(net).state_dict(), True),
    "torch.compile": (lambda net: torch.compile(net).state_dict(), True),
    "compiled and parallel": (lambda net: {"model": plain(net, "module._orig_mod.")}, False),
    "AveragedModel": (lambda net: torch.optim.swa_utils.AveragedModel(net).state_dict(), True),
    "timm's average": (lambda net: {"state_dict": zeros(net), "state_dict_ema": net.state_dict()}, True),
    "ModelEmaV3": (lambda net: timm.utils.ModelEmaV3(net).state_dict(), True),
    "Lightning": (
        lambda net: {"state_dict": plain(net, "model."), "pytorch-lightning_version": "2.6.0", "hyper_parameters": {}},
        False,
    ),
    "Lightning, compiled": (lambda net: {"state_dict": plain(net, "model._orig_mod.")}, False),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_the_tensors_come_back(wrapping: str, network: az.Backbone, tmp_path: Path) -> None:
    wrap, says_so = WRAPPINGS[wrapping]
    torch.save(wrap(network), tmp_path / "w.pth")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = az.mobilenet_v2(pretrained=tmp_path / "w.pth", **SMALL)
    guessed = any("does not state the network" in str(warning.message) for warning in caught)
    assert guessed != says_so
    assert loaded.config.filter_size == (3 if says_so else 4)
    assert loaded.num_classes == 7
    expected = network.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


@pytest.mark.parametrize("wrapping", ["state dict", "Lightning", "AveragedModel"])
def test_the_head_and_the_channels_are_followed_or_renewed(wrapping: str, tmp_path: Path) -> None:
    saved = az.mobilenet_v2(3, num_classes=7, in_chans=4, **SMALL)
    torch.save(WRAPPINGS[wrapping][0](saved), tmp_path / "w.pth")
    followed = az.mobilenet_v2(3, tmp_path / "w.pth", **SMALL)
    assert (followed.num_classes, followed.in_chans) == (7, 4)
    renewed = az.mobilenet_v2(3, tmp_path / "w.pth", num_classes=5, in_chans=1, **SMALL)
    assert (renewed.num_classes, renewed.in_chans) == (5, 1)
    assert torch.equal(renewed.features[1].conv[0][0].weight, saved.features[1].conv[0][0].weight)


def test_safetensors_a_folder_and_a_url(network: az.Backbone, tmp_path: Path) -> None:
    save_file(plain(network, "module."), tmp_path / "w.safetensors")
    with pytest.warns(UserWarning, match="does not state the network"):
        read = az.mobilenet_v2(3, tmp_path / "w.safetensors", **SMALL)
    assert torch.equal(read.classifier[1].weight, network.classifier[1].weight)
    network.save_pretrained(tmp_path / "folder")
    assert az.mobilenet_v2(pretrained=tmp_path / "folder").config == network.config
    with served(tmp_path / "folder") as address:
        digest = hashlib.sha256((tmp_path / "folder" / "model.safetensors").read_bytes()).hexdigest()
        url = f"{address}/model.safetensors"
        assert az.mobilenet_v2(pretrained=f"{url}#sha256={digest}").config == network.config
        assert az.weights.repository.open_place(f"{url}#sha256={digest}").path.name == f"model-{digest[:8]}.safetensors"
        with pytest.raises(ValueError, match="states no digest"):
            az.mobilenet_v2(pretrained=url)
        with pytest.raises(az.errors.FetchError):
            az.mobilenet_v2(pretrained=f"{url}#sha256={'0' * 64}")


def test_a_network_without_a_head_gets_one_or_none(tmp_path: Path) -> None:
    torch.save(plain(az.mobilenet_v2(3, num_classes=0, **SMALL)), tmp_path / "w.pth")
    assert az.mobilenet_v2(3, tmp_path / "w.pth", **SMALL).num_classes == 0
    assert az.mobilenet_v2(3, tmp_path / "w.pth", num_classes=2, **SMALL).num_classes == 2


def test_what_cannot_be_read_says_why(network: az.Backbone, tmp_path: Path) -> None:
    torch.save(network, tmp_path / "whole.pth")
    with pytest.raises(UnsafePickleError):
        az.mobilenet_v2(3, tmp_path / "whole.pth", **SMALL)
    torch.save(plain(az.resnet18(num_classes=2)), tmp_path / "other.pth")
    with pytest.raises(TensorMismatchError, match=r"other\.pth"):
        az.mobilenet_v2(3, tmp_path / "other.pth", **SMALL)
    unlike = {**plain(network), "features.3.conv.1.0.weight": torch.zeros(3)}
    torch.save(unlike, tmp_path / "unlike.pth")
    with pytest.raises(TensorMismatchError, match=r"features\.3\.conv\.1\.0\.weight"):
        az.mobilenet_v2(3, tmp_path / "unlike.pth", **SMALL)
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        az.mobilenet_v2(3, tmp_path / "gone.pth", **SMALL)
