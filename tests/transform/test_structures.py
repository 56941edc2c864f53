"""A published network's structure in a host of the user's own, and the record that tells structures apart."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from forked import run_code
from torch import nn

import antialiased_zoo as az
from antialiased_zoo.transform import structures
from antialiased_zoo.weights import DEFAULTS, NetworkConfig
from antialiased_zoo.zoo import ARCHITECTURES


def test_every_network_has_its_structure_without_the_zoo(tmp_path: Path) -> None:
    assert structures.RECORD == NetworkConfig.KEY
    expected = {name: dict(ARCHITECTURES[name].structure) for name in az.list_models()}
    assert expected["resnet50"] == {"stem_pool": "max2"}
    assert len(expected) == 26
    code = f"""
import sys
from antialiased_zoo.transform import published_structure
for name, structure in {expected!r}.items():
    assert dict(published_structure(name)) == structure, name
assert "antialiased_zoo.zoo" not in sys.modules
"""
    done = run_code(code, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["resnet18", pytest.param("densenet121", marks=pytest.mark.slow)])
def test_a_host_gets_a_published_structure(name: str) -> None:
    torch.manual_seed(0)
    ours = az.create_model(name, 4, num_classes=5).eval()
    host = torchvision.models.get_model(name, num_classes=5).eval()
    host.load_state_dict(ours.state_dict())
    x = torch.randn(1, 3, 64, 65)
    torch.testing.assert_close(az.antialias(host, 4, like=name)(x), ours(x))
    assert not torch.allclose(az.antialias(host, 4)(x), ours(x), rtol=1e-3)
    torch.testing.assert_close(
        az.antialias(host, 4, like=name, stem_pool="max", avg_pool="fit")(x), az.antialias(host, 4)(x)
    )


def test_an_unknown_name_is_an_error_before_anything_changes() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2))
    before = repr(net)
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        az.antialias_(net, like="resnet_50")
    assert repr(net) == before


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, 2), nn.ReLU())


def saved(net: nn.Module) -> dict[str, torch.Tensor]:
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_loading_compares_structures() -> None:
    state = saved(az.antialias(small(), 3))
    az.antialias(small(), 3).load_state_dict(state)
    small().load_state_dict(state)
    copy.deepcopy(az.antialias(small(), 3)).load_state_dict(state)
    for net in (
        az.antialias(small(), 5),
        az.antialias(small(), 3, stem_pool="max2"),
        az.antialias(small(), 3, wide=True),
    ):
        with pytest.raises(RuntimeError, match="saved from a Sequential with"):
            net.load_state_dict(state)
        net.load_state_dict(dict(state))
    az.antialias(small(), [1, 2, 1], kinds=("maxpool",)).load_state_dict(state)  # a part: no record can state that


@pytest.mark.parametrize("taps", [np.array([1.0, 2, 1]), torch.tensor([1.0, 2, 1]), (1, 2, 1)])
def test_arrays_of_taps_are_saved_too(taps: Any) -> None:
    state = saved(az.antialias(small(), taps, wide=np.bool_(False)))
    az.antialias(small(), 3).load_state_dict(state)
    with pytest.raises(RuntimeError, match="here 4"):
        az.antialias(small(), 4).load_state_dict(state)


def test_a_part_of_a_larger_network_is_compared_too() -> None:
    def whole(size: int) -> nn.Module:
        return nn.Sequential(az.antialias(small(), size), nn.Conv2d(4, 2, 1))

    state = saved(whole(3))
    whole([1, 2, 1]).load_state_dict(state)
    with pytest.raises(RuntimeError, match="filter_size=3, here 4"):
        whole(4).load_state_dict(state)


def test_a_network_of_the_zoo_in_a_host(tmp_path: Path) -> None:
    state = saved(az.resnet18(4, num_classes=5))
    az.antialias(torchvision.models.resnet18(num_classes=5), 4, like="resnet18").load_state_dict(state)
    with pytest.raises(RuntimeError, match="stem_pool='max2', here 'max'"):
        az.antialias(torchvision.models.resnet18(num_classes=5), 4).load_state_dict(state)


def test_the_records_of_the_zoo_have_the_transforms_defaults() -> None:
    """They stand in two rooms, neither of which imports the other."""
    model = az.antialias(small())
    assert json.loads(model.state_dict()._metadata[""][structures.RECORD])["structure"] == DEFAULTS


def test_a_registered_structure() -> None:
    structures.register_structure("toy", {"stem_pool": "blur"})
    assert type(az.antialias(small(), like="toy")[2]) is az.Downsample


@pytest.mark.parametrize("placements", [("before_conv", "after_nonlinearity"), ("after_nonlinearity", "before_conv")])
def test_another_placement_is_another_structure(placements: tuple[str, str]) -> None:
    saved, other = (az.antialias(torchvision.models.resnet18(), placement=placement) for placement in placements)
    with pytest.raises(RuntimeError, match=f"placement='{placements[0]}', here '{placements[1]}'"):
        other.load_state_dict(saved.state_dict())
