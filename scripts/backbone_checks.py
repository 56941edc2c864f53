"""Checks of the table in docs/backbones.md, one function per column; with --write it updates the table.

    python scripts/backbone_checks.py            # all networks; --write puts the results into docs/backbones.md
    python scripts/backbone_checks.py resnet18 --columns hub "layer decay" --write

Tests run every check on one network of each family; this script runs them on all networks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from running import network_name, run_script
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

import antialiased_zoo as az

PAGE = Path(__file__).parents[1] / "docs" / "backbones.md"
SIZES = ((224, 224), (193, 257))
Check = Callable[[str], None]
CHECKS: dict[str, Check] = {}


def column(title: str) -> Callable[[Check], Check]:
    """Register a check under its column's title."""

    def register(check: Check) -> Check:
        CHECKS[title] = check
        return check

    return register


def build(name: str, **options: Any) -> Any:
    if name.startswith("vgg"):
        options["init_weights"] = False  # skips half a gigabyte of random numbers
    return az.create_model(name, **options)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max().clamp(min=1e-3)


@column("features")
@torch.no_grad()
def features(name: str) -> None:
    """Maps equal those of torchvision's extractor for the same modules, at a square and an odd size."""
    network = build(name).eval()
    maps = az.zoo.FeatureMaps(network)
    nodes = maps.feature_info.module_name()
    theirs = create_feature_extractor(network, {node: node for node in nodes})
    for size in SIZES:
        image = torch.randn(1, 3, *size)
        ours, others = maps(image), theirs(image)
        for at, node in enumerate(nodes):
            relu = name.startswith("densenet") and at == len(nodes) - 1  # its last activation is not a module
            close(ours[at], others[node].relu() if relu else others[node])
            assert ours[at].shape[1] == maps.feature_info.channels()[at]
            assert abs(size[1] / maps.feature_info.reduction()[at] - ours[at].shape[-1]) <= 2
        close(ours[-1], network.forward_features(image))


@column("FPN")
def pyramid(name: str) -> None:
    """Every map of the pyramid has the right channels, and gradients reach the first convolution."""
    backbone = az.backbone_with_fpn(name, out_channels=8, **({"init_weights": False} if name.startswith("vgg") else {}))
    maps = backbone(torch.randn(1, 3, 96, 128))
    assert list(maps) == ["0", "1", "2", "3", "pool"]
    assert {x.shape[1] for x in maps.values()} == {8}
    sum(x.sum() for x in maps.values()).backward()
    assert next(backbone.body.parameters()).grad.abs().sum() > 0


@column("reset_classifier")
@torch.no_grad()
def reset(name: str) -> None:
    """A new head has the new size and does not change the features."""
    network = build(name).eval()
    image = torch.randn(1, 3, 64, 64)
    before = network.forward_head(network.forward_features(image), pre_logits=True)
    network.reset_classifier(7)
    assert network(image).shape == (1, 7)
    assert network.num_classes == network.get_classifier().out_features == 7
    assert torch.equal(network.forward_head(network.forward_features(image), pre_logits=True), before)


@column("num_classes=0")
@torch.no_grad()
def headless(name: str) -> None:
    """Without a head the network returns the head's input."""
    network = build(name, num_classes=0).eval()
    image = torch.randn(1, 3, 64, 64)
    out = network(image)
    assert out.shape == (1, network.head_hidden_size)
    assert torch.equal(out, network.forward_head(network.forward_features(image), pre_logits=True))
    network.reset_classifier(2)
    assert torch.equal(network(image), network.get_classifier()(out))


@column("in_chans 1, 4")
@torch.no_grad()
def channels(name: str) -> None:
    """Images of one and of four channels are classified."""
    for in_chans in (1, 4):
        network = build(name, in_chans=in_chans, num_classes=2).eval()
        assert network(torch.randn(1, in_chans, 64, 64)).shape == (1, 2)
        assert network.pretrained_cfg["input_size"] == (in_chans, 224, 224)
        assert len(network.pretrained_cfg["mean"]) == in_chans


@column("grad checkpointing")
def checkpointing(name: str) -> None:
    """Gradients and running statistics equal those without it, to 1e-6 of the largest."""
    network = build(name, num_classes=2)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    image = torch.randn(2, 3, 64, 64)
    kept = {key: value.clone() for key, value in network.state_dict().items()}
    results = []
    for enable in (False, True):
        network.load_state_dict(kept)
        network.zero_grad()
        network.set_grad_checkpointing(enable)
        network(image).square().sum().backward()
        grads = {key: parameter.grad.clone() for key, parameter in network.named_parameters()}
        results.append((grads, {key: value.clone() for key, value in network.named_buffers()}))
    largest = max(grad.abs().max() for grad in results[0][0].values())
    for key, grad in results[0][0].items():
        assert (grad - results[1][0][key]).abs().max() <= 1e-6 * largest, key
    for key, buffer in results[0][1].items():
        assert torch.equal(buffer, results[1][1][key]), key


@column("save, load")
@torch.no_grad()
def saving(name: str) -> None:
    """A network built from a saved folder has the same outputs."""
    network = build(name, filter_size=3, num_classes=2).eval()
    image = torch.randn(1, 3, 64, 64)
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        again = az.from_pretrained(folder)
        assert again.config == network.config
        for key, tensor in again.state_dict().items():
            assert torch.equal(tensor, network.state_dict()[key]), key
        close(again(image), network(image))


@column("hub")
@torch.no_grad()
def hub(name: str) -> None:
    """A network pushed to a local fake hub can be built again from its name there."""
    from huggingface_hub import constants

    sys.path.append(str(PAGE.parents[1] / "tests"))
    from fake_hub import FakeHub

    network = build(name, filter_size=3, num_classes=2).half()  # half the bytes
    with FakeHub() as server, tempfile.TemporaryDirectory() as cache:
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        places = {"ENDPOINT": server.url, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_CACHE": cache}
        ours = mock.patch.dict("os.environ", {"HF_ENDPOINT": server.url, "TORCH_HOME": cache})
        with ours, mock.patch.multiple(constants, **places, HF_HUB_DISABLE_XET=True):
            network.push_to_hub("me/it", token="hf_x")
            again = az.from_pretrained("hf-hub:me/it")
        assert any(request.startswith("GET /me/it/resolve/") for request in server.requests)
    assert again.config == network.config
    state = network.state_dict()
    for key, tensor in again.state_dict().items():
        assert torch.equal(tensor.to(state[key].dtype), state[key]), key


@column("timm's create_transform")
def transform(name: str) -> None:
    """Timm's transform for the network's configuration equals ours."""
    import numpy as np
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    network = build(name)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype("uint8")
    photo = Image.fromarray(pixels).resize((400, 300), Image.Resampling.BICUBIC)
    theirs = create_transform(**resolve_data_config({}, model=network))(photo)
    ours = network.config.preprocessing.build()(photo)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().mean() < 0.02


@column("layer decay")
def layer_decay(name: str) -> None:
    """Timm's groups contain every parameter once; learning rates grow from the stem to the head."""
    from timm.optim import param_groups_layer_decay

    network = build(name, num_classes=2)
    groups = param_groups_layer_decay(network, layer_decay=0.8)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(map(id, network.parameters()))
    scale = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    scales = [scale[id(parameter)] for parameter in network.parameters()]
    assert scales == sorted(scales)
    assert scales[-1] == 1.0
    assert len(set(scales)) >= 4
    assert len(network.group_matcher(coarse=True)["blocks"]) < len(network.group_matcher()["blocks"])


def check(names: Sequence[str], titles: Sequence[str]) -> dict[str, set[str]]:
    """Run checks and return the columns that each network has passed; a failing check ends the script."""
    passed: dict[str, set[str]] = {}
    for name in names:
        for title in titles:
            torch.manual_seed(0)
            CHECKS[title](name)
            passed.setdefault(name, set()).add(title)
            print(f"{name}: {title}", flush=True)
    return passed


def write(passed: dict[str, set[str]]) -> None:
    """Write the passed checks into the page's table, in the zoo's order; other cells stay."""
    before, rest = PAGE.read_text(encoding="utf-8").split("<!-- networks -->\n")
    table, after = rest.split("<!-- /networks -->")
    head, _, *lines = (line.strip("| ").split(" | ") for line in table.splitlines())
    known = {cells[0].strip("`"): {title for title, cell in zip(head, cells, strict=True) if cell} for cells in lines}
    for name, titles in passed.items():
        known[name] = known.get(name, set()) | titles
    rows = ["| network | " + " | ".join(CHECKS) + " |", "| --- " * (len(CHECKS) + 1) + "|"]
    for name in (name for name in az.list_models() if name in known):
        rows.append(f"| `{name}` | " + " | ".join("yes" if title in known[name] else "" for title in CHECKS) + " |")
    PAGE.write_text(f"{before}<!-- networks -->\n" + "\n".join(rows) + f"\n<!-- /networks -->{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", type=network_name, help="networks; default: all")
    parser.add_argument("--columns", nargs="+", choices=CHECKS, default=list(CHECKS), help="default: all")
    parser.add_argument("--write", action="store_true", help="write the passed checks into docs/backbones.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.names or az.list_models():
        passed = check([name], options.columns)
        if options.write:
            write(passed)


if __name__ == "__main__":
    run_script(main)
