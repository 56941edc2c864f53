"""Networks saved with their structure: folders, files, a hub on this machine, timm reading the same folder."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from fake_hub import FakeHub
from forked import run_code
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import antialiased_zoo as az
from antialiased_zoo.errors import CheckpointError, MalformedFileError, StructureMismatchError
from antialiased_zoo.weights import NetworkConfig, find_weights
from antialiased_zoo.zoo import find_architecture
from antialiased_zoo.zoo.building import network_config

IMAGE = torch.randn(2, 3, 64, 64)


@torch.inference_mode()
def test_a_folder_builds_the_same_network_again(tmp_path: Path) -> None:
    made = az.mobilenet_v2(3, num_classes=2, in_chans=1, stem_stride=1, pad_type="zero", width_mult=0.25).eval()
    made.save_pretrained(tmp_path, classes=("cat", "dog"), metrics={"acc1": 91.5}, license="MIT", dataset="pets")
    again = az.from_pretrained(tmp_path)
    assert not again.training
    assert again.config == az.from_pretrained(tmp_path / "model.safetensors").config
    assert torch.equal(again(IMAGE[:, :1]), made(IMAGE[:, :1]))
    assert (again.config.classes, again.config.metrics, again.config.license) == (("cat", "dog"), {"acc1": 91.5}, "MIT")
    card = (tmp_path / "README.md").read_text()
    assert "license: mit" in card
    assert "91.50" in card
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "config.json", "model.safetensors"}


def cifar10(**options: Any) -> az.Backbone:
    return az.mobilenet_v2(4, pretrained="cifar10", **options)


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    """The weights alone were the owner's: safetensors' own writer makes its files with the mode 0600."""
    az.save_pretrained(az.resnet18(), tmp_path)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes.values()) == {modes["README.md"]}, modes


def test_a_new_head_has_neither_the_old_classes_nor_the_old_metrics(tmp_path: Path) -> None:
    network = cifar10()
    assert len(network.config.metrics) >= 1
    assert len(network.config.classes) == 10
    for classes in (7, 10):
        network.reset_classifier(classes)
        assert (network.config.classes, network.config.metrics) == (None, {})
    grey = cifar10(in_chans=1)
    assert len(grey.config.classes) == 10
    assert not grey.config.metrics
    assert cifar10(num_classes=0).config.metrics == {}
    network = cifar10()
    network.classifier[1] = torch.nn.Linear(1280, 7)
    network.save_pretrained(tmp_path)
    assert "acc1" not in (tmp_path / "README.md").read_text()
    assert az.from_pretrained(tmp_path).num_classes == 7


def own_head(network: az.Backbone) -> az.Backbone:
    network.fc = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(512, 2))
    return network


def own_pool(network: az.Backbone) -> az.Backbone:
    network.avgpool = torch.nn.Sequential(network.avgpool, torch.nn.BatchNorm2d(512))
    return network


@pytest.mark.parametrize(
    ("change", "what"), [(own_head, "fc"), (own_pool, "avgpool.1"), (az.for_inference, "(bn1|conv1)")]
)
def test_what_cannot_be_built_again_is_not_saved(
    change: Callable[[az.Backbone], az.Backbone], what: str, tmp_path: Path
) -> None:
    with pytest.raises(StructureMismatchError, match=f"the layers .{what}.* were changed"):
        change(az.resnet18().eval()).save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_factory_follows_the_file_and_refuses_another_structure(tmp_path: Path) -> None:
    az.resnet18(3, shortcut="stride", num_classes=3).save_pretrained(tmp_path)
    ours = az.resnet18(pretrained=tmp_path)
    assert ours.config.describe() == "resnet18(filter_size=3, shortcut='stride', stem_pool='max2')"
    assert ours.num_classes == 3
    with pytest.raises(
        StructureMismatchError, match=r"saved from resnet18\(filter_size=3.*network is resnet18\(filter_si"
    ):
        az.resnet18(4, pretrained=tmp_path)
    with pytest.raises(StructureMismatchError, match=r"the network is resnet18\(filter_size=3, stem_pool='max2'\)"):
        az.resnet18(pretrained=tmp_path, shortcut="blur")
    with pytest.raises(StructureMismatchError, match=r"network is resnet34"):
        az.resnet34(pretrained=tmp_path)
    assert az.resnet18(pretrained=tmp_path, num_classes=5, in_chans=4).fc.out_features == 5


def test_a_plain_state_dict_says_its_structure_too(tmp_path: Path) -> None:
    tri3 = az.mobilenet_v2(3, width_mult=0.25)
    torch.save({"state_dict": tri3.state_dict()}, tmp_path / "w.pth")
    assert az.mobilenet_v2(pretrained=tmp_path / "w.pth").config.filter_size == 3
    with pytest.raises(StructureMismatchError, match="filter_size=2"):
        az.mobilenet_v2(2, pretrained=tmp_path / "w.pth")
    other = az.mobilenet_v2(2, width_mult=0.25)
    with pytest.raises(
        RuntimeError, match=r"saved from mobilenet_v2\(filter_size=3\), but the network is mobilenet_v2\(fil"
    ):
        other.load_state_dict(tri3.state_dict())
    other.load_state_dict(dict(tri3.state_dict()))  # what makes no claim is not checked
    assert torch.equal(other.classifier[1].weight, tri3.classifier[1].weight)
    az.mobilenet_v2([1, 2, 1], width_mult=0.25).load_state_dict(tri3.state_dict())  # the same taps


STRUCTURES = st.fixed_dictionaries(
    {
        "filter_size": st.sampled_from([None, 2, 3, 5, (0.3, 0.4, 0.3)]),
        "stem_stride": st.sampled_from([1, 2]),
        "shortcut": st.sampled_from(["blur", "stride"]),
        "stem_pool": st.sampled_from(["max", "max2", "blur"]),
        "pad_type": st.sampled_from(["reflect", "zero"]),
    }
)


built_before: dict[tuple[object, ...], az.Backbone] = {}


@settings(max_examples=10, deadline=None)
@given(saved=STRUCTURES, wanted=STRUCTURES)
def test_another_structure_never_passes_in_silence(saved: dict[str, object], wanted: dict[str, object]) -> None:
    def built(options: dict[str, object]) -> az.Backbone:
        key = tuple(options.items())
        if key not in built_before:
            with torch.device("meta"):
                built_before[key] = az.resnet18(**options)
        return built_before[key]

    state = built(saved).state_dict()
    state = type(state)({name: torch.empty(t.shape, dtype=t.dtype) for name, t in state.items()})
    state._metadata = built(saved).state_dict()._metadata
    same = saved == wanted or (saved["filter_size"] is None and wanted["filter_size"] is None)
    network = copy.deepcopy(built(wanted))
    if same:
        network.load_state_dict(state, assign=True)
    else:
        with pytest.raises(RuntimeError, match="the tensors were saved from resnet18"):
            network.load_state_dict(state, assign=True)


def test_the_tensors_of_torchvisions_network_with_the_same_structure_are_taken() -> None:
    mine, net = torchvision.models.resnet18(num_classes=3), az.resnet18(4, num_classes=3)
    same = az.antialias(mine, 4, like="resnet18")
    net.load_state_dict(same.state_dict())
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(net.eval()(x), same.eval()(x))
    for other in (az.antialias(mine, 4), az.antialias(mine, 3, like="resnet18")):
        with pytest.raises(RuntimeError, match="the tensors were saved from resnet18"):
            net.load_state_dict(other.state_dict())


@settings(max_examples=100, deadline=None)
@given(
    saved=STRUCTURES,
    wanted=st.fixed_dictionaries({}, optional={"shortcut": st.sampled_from(["blur", "stride"]),
                                               "stem_stride": st.sampled_from([1, 2]),
                                               "filter_size": st.sampled_from([None, 2, 3])}),
)  # fmt: skip
def test_a_files_structure_is_followed_or_another_one_is_refused(
    saved: dict[str, Any], wanted: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "property.safetensors"
    structure = {name: value for name, value in saved.items() if name != "filter_size"}
    config = NetworkConfig("resnet18", saved["filter_size"], structure)
    save_file({"x": torch.zeros(1)}, path, {NetworkConfig.KEY: config.to_json()})

    def built() -> NetworkConfig:
        chosen = "filter_size" in wanted
        weights = find_weights("resnet18", wanted.get("filter_size", 4), path, chosen)
        given = {name: value for name, value in wanted.items() if name != "filter_size"}
        return network_config(find_architecture("resnet18"), weights, wanted.get("filter_size", 4), given, {})

    without_blur = saved["filter_size"] is None and wanted.get("filter_size") is None
    if without_blur or all(saved[name] == value for name, value in wanted.items()):
        assert not built().difference(config)
    else:
        with pytest.raises(StructureMismatchError, match=r"saved from resnet18.*the network is resnet18"):
            built()


def test_another_structures_tensors_are_refused_by_a_network_that_was_changed() -> None:
    changed = az.antialias_(az.resnet18(None), 4)
    with pytest.raises(RuntimeError, match=r"saved from a resnet18 with filter_size=3, here 4"):
        changed.load_state_dict(az.resnet18(3).state_dict())
    changed.load_state_dict(changed.state_dict())


def test_a_network_that_was_changed_says_so_and_its_state_dict_makes_no_claim_of_ours(tmp_path: Path) -> None:
    model = az.resnet18(None)
    az.antialias_(model, 4)
    with pytest.raises(StructureMismatchError, match="blurs or strides of this"):
        model.save_pretrained(tmp_path)
    assert '"model": "resnet18"' not in model.state_dict()._metadata[""].get(NetworkConfig.KEY, "")


def test_sizes_may_be_numpys_integers(tmp_path: Path) -> None:
    """As ``labels.max() + 1`` gives them; the record is JSON, which has no such numbers."""
    network = az.alexnet(num_classes=np.int64(3), in_chans=np.int32(1))
    network.reset_classifier(np.int64(2))
    config = az.from_pretrained(network.save_pretrained(tmp_path)).config
    assert (config.num_classes, config.in_chans) == (2, 1)


@pytest.mark.parametrize("save", [az.save_pretrained, az.push_to_hub])
def test_what_create_model_did_not_build_is_refused(save: Callable[..., object], tmp_path: Path) -> None:
    for model, name in ((torch.nn.DataParallel(az.alexnet(num_classes=2)), "DataParallel"), (torch.nn.ReLU(), "ReLU")):
        with pytest.raises(TypeError, match=rf"got {name}: of a wrapper, .* torch.save\(\) the state_dict"):
            save(model, str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_what_no_file_can_hold_must_be_given_again(tmp_path: Path) -> None:
    def norm(channels: int) -> torch.nn.Module:
        return torch.nn.GroupNorm(4, channels)

    az.resnet18(norm_layer=norm).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"pass norm_layer=\.\.\. again"):
        az.from_pretrained(tmp_path)
    assert isinstance(az.from_pretrained(tmp_path, norm_layer=norm).bn1, torch.nn.GroupNorm)


@pytest.mark.parametrize(
    "record", ["[]", "{}", '{"model": 3, "filter_size": 4}', '{"model": "resnet18", "filter_size": 99}', "{",
               '{"model": "resnet18", "filter_size": 4, "structure": {"new": 1}}']
)  # fmt: skip
def test_a_damaged_record_is_named(record: str, tmp_path: Path) -> None:
    save_file(az.resnet18(num_classes=2).state_dict(), tmp_path / "w.safetensors", {NetworkConfig.KEY: record})
    with pytest.raises(MalformedFileError, match=r"w\.safetensors: the record"):
        az.resnet18(pretrained=tmp_path / "w.safetensors")


def test_a_folder_whose_files_contradict_each_other_is_refused(tmp_path: Path) -> None:
    az.resnet18(3, num_classes=2).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config[NetworkConfig.KEY]["filter_size"] = 5
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="contradict"):
        az.from_pretrained(tmp_path)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("resnet18", {"filter_size": 3, "shortcut": "stride", "stem_pool": "max"}, "resnetblur18"),
        ("resnet50", {"filter_size": 2, "shortcut": "stride", "stem_pool": "blur"}, "resnetaa50"),
        ("densenet121", {"filter_size": None}, "densenet121"),
        pytest.param("vgg11_bn", {"filter_size": None}, "vgg11_bn", marks=pytest.mark.slow),
    ],
)
def test_timm_loads_the_folder_where_it_has_the_network(
    name: str, options: dict[str, object], theirs: str, tmp_path: Path
) -> None:
    ours = az.create_model(name, num_classes=4, **options).eval()
    ours.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == theirs
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    torch.testing.assert_close(loaded(IMAGE), ours(IMAGE), rtol=1e-4, atol=1e-5)


def test_timm_refuses_what_it_has_not(tmp_path: Path) -> None:
    az.resnet18(4).save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="Unknown model"):
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)


def test_timms_own_saving_works(tmp_path: Path) -> None:
    model = az.resnet18(3, shortcut="stride", stem_pool="max", num_classes=4)
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == "resnetblur18"
    assert load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys()


HUB = """
import os, pathlib, warnings, torch, antialiased_zoo as az
model = az.mobilenet_v2(3, num_classes=2, stem_stride=1, width_mult=0.1)
url = model.push_to_hub("me/mine", token="hf_x", classes=("cat", "dog"), license="MIT")
first = url.rpartition("/")[2]
with torch.no_grad():
    model.classifier[1].bias += 1
model.push_to_hub("me/mine", token="hf_x")
again = az.from_pretrained("hf-hub:me/mine")
old = az.from_pretrained(f"hf-hub:me/mine@{first}")
biases = [net.classifier[1].bias for net in (model, again, old)]
assert torch.equal(biases[0], biases[1]) and torch.equal(biases[0], biases[2] + 1)
assert old.config.classes == ("cat", "dog")
assert az.mobilenet_v2(pretrained="hf-hub:me/mine", num_classes=7).classifier[1].out_features == 7
assert az.create_model("hf-hub:me/mine").config.filter_size == 3
model = az.resnet18(2, num_classes=2, shortcut="stride")
model.push_to_hub("me/resnet18", token="hf_x")
again = az.from_pretrained("hf-hub:me/resnet18")
assert again.config == model.config
assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in model.state_dict().items())
for wrong in ("hf-hub:me/none", "hf-hub:me/mine@0123456"):
    try:
        az.from_pretrained(wrong)
    except az.errors.FetchError as error:
        assert "cannot get" in str(error) and "me/" in str(error), error
    else:
        raise SystemExit(f"{wrong} was found")
for copy in pathlib.Path(os.environ["TORCH_HOME"]).rglob("hf--me--mine-*.safetensors"):
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    fresh = az.from_pretrained("hf-hub:me/mine")
assert "had the wrong digest" in str(said[0].message), said
assert torch.equal(fresh.classifier[1].bias, biases[0])
"""


def environment(hub: FakeHub, tmp_path: Path) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}


def test_through_a_hub_whose_damaged_files_are_replaced(tmp_path: Path) -> None:
    with FakeHub() as hub:
        done = run_code(HUB, tmp_path, **environment(hub, tmp_path))
        assert done.returncode == 0, done.stderr
        assert set(hub.repos["me/mine"][-1][1]) == {"README.md", "config.json", "model.safetensors"}
