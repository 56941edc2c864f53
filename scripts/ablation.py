"""What each fast path brings: every network in one process, the plain formula beside each path alone and all together.

    python scripts/ablation.py --out results/ablation            # the allocator untouched
    python scripts/ablation.py --out results/ablation --keep-freed-memory

Each contestant is the same network with some of the paths switched on. They take turns in an order drawn anew. A path
stays in the package if it makes some network at least 5% faster or saves memory worth naming.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from tqdm import tqdm

import antialiased_zoo as az
from antialiased_zoo import dense_block, dense_pool, layers, memory, packed_conv, piecewise, pooling, relu6, resample

NETWORKS = (
    "alexnet",
    "vgg16",
    "vgg16_bn",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "densenet121",
    "mobilenet_v2",
)
LAYOUTS = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}
NEVER = dict.fromkeys(resample._BORDERED, math.inf)

# Each path: what switches it off, and the networks that have it.
POOLED = tuple(name for name in NETWORKS if name != "mobilenet_v2")
PATHS: Mapping[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "bordered_blur": (lambda: mock.patch.object(resample, "_BORDERED", NEVER), NETWORKS),
    "padded_blur": (lambda: mock.patch.object(resample, "_PADDED_GRADIENT", {}), NETWORKS),
    "dense_pool": (lambda: mock.patch.object(pooling, "_goes_densely", lambda x: False), POOLED),
    "piecewise": (
        lambda: mock.patch.object(piecewise.PiecewiseSequential, "forward", nn.Sequential.forward),
        ("vgg16", "vgg16_bn", "densenet121", "mobilenet_v2"),
    ),
    "relu6": (lambda: mock.patch.object(relu6.InPlaceReLU6, "forward", nn.ReLU6.forward), ("mobilenet_v2",)),
    "dense_block": (lambda: _plain_dense_block(), ("densenet121",)),
}
TRAINING_ONLY, INFERENCE_ONLY = ("padded_blur", "relu6"), ("piecewise",)


@contextlib.contextmanager
def _plain_dense_block() -> Iterator[None]:
    block, layer = dense_block._DenseBlock, dense_block._DenseLayer
    with (
        mock.patch.object(dense_block.PairwiseDenseBlock, "forward", block.forward),
        mock.patch.object(dense_block.DirectDenseLayer, "bn_function", layer.bn_function),
    ):
        yield


@contextlib.contextmanager
def only(paths: tuple[str, ...]) -> Iterator[None]:
    """Switch every path off but these."""
    with contextlib.ExitStack() as stack:
        for name, (off, _) in PATHS.items():
            if name not in paths:
                stack.enter_context(off())
        yield


def contestants(network: str, training: bool) -> dict[str, tuple[str, ...]]:
    usable = tuple(
        name
        for name, (_, networks) in PATHS.items()
        if network in networks and name not in (INFERENCE_ONLY if training else TRAINING_ONLY)
    )
    return {"plain": (), **{name: (name,) for name in usable}, "all": usable}


def forward_step(model: nn.Module, x: Tensor) -> Callable[[], Any]:
    model.eval()

    def step() -> None:
        with torch.inference_mode():
            model(x)

    return step


def training_step(model: nn.Module, x: Tensor) -> Callable[[], Any]:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    labels = torch.zeros(len(x), dtype=torch.long)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return step


def measure(network: str, batch: int, training: bool, layout: str, turns: int) -> dict[str, Any]:
    model = az.create_model(network, memory_format=LAYOUTS[layout])
    x = torch.randn(batch, 3, 224, 224).contiguous(memory_format=LAYOUTS[layout])
    runs: dict[str, tuple[tuple[str, ...], Callable[[], Any]]] = {}
    step = training_step(model, x) if training else forward_step(model, x)
    for name, paths in contestants(network, training).items():
        runs[name] = (paths, step)
    if not training:
        for name, pack in (("for_inference, unpacked", False), ("for_inference", True)):
            frozen = az.for_inference(model)
            if not pack:
                for module in frozen.modules():
                    if type(module) is packed_conv.PackedConv2d:
                        module.__class__ = nn.Conv2d
            runs[name] = (contestants(network, False)["all"], forward_step(frozen, x))
    figures: dict[str, list[float]] = {name: [] for name in runs}
    order = random.Random(0)
    for turn in range(turns + 1):
        for name in order.sample(list(runs), len(runs)):
            paths, step = runs[name]
            with only(paths):
                start = time.perf_counter()
                step()
                figure = (time.perf_counter() - start) * 1e3
            if turn:
                figures[name].append(figure)
    ratios = {
        name: statistics.median(p / v for p, v in zip(figures["plain"], values, strict=True))
        for name, values in figures.items()
    }
    return {
        "network": network,
        "batch": batch,
        "mode": "training" if training else "inference",
        "layout": layout,
        "turns": turns,
        "ms": {name: statistics.median(values) for name, values in figures.items()},
        "speedup": ratios,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep-freed-memory", action="store_true")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 8, 32))
    options = parser.parse_args()
    if options.keep_freed_memory:
        memory.keep_freed_memory()
    else:
        for module in (resample, dense_pool, layers):
            module.keep_freed_memory = lambda: None
    setting = "keep_freed_memory" if options.keep_freed_memory else "default"
    file = options.out / f"{setting}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    done = json.loads(file.read_text())["rows"] if file.exists() else []
    known = {(row["network"], row["batch"], row["mode"], row["layout"]) for row in done}
    cases = [
        (network, batch, training, layout)
        for training in (False, True)
        for batch in options.batches
        for network in options.networks
        for layout in LAYOUTS
        if not (training and layout == "channels-last" and batch == 32)  # for want of time
    ]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    for network, batch, training, layout in tqdm(cases, disable=None):
        if (network, batch, "training" if training else "inference", layout) in known:
            continue
        slow = network.startswith("vgg") or training
        turns = {1: 15, 8: 5 if slow else 9, 32: 2 if slow else 3}[batch]
        done.append(measure(network, batch, training, layout, turns))
        machine = {"torch": torch.__version__, "threads": torch.get_num_threads(), "cpu": platform.machine()}
        file.write_text(json.dumps({"allocator": setting, "commit": commit, **machine, "rows": done}, indent=1))
        print(json.dumps(done[-1]["speedup"]), network, batch, training, layout, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
