"""Whole networks: inference and training steps, each contestant in the better of its two layouts."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import antialiased_zoo as az

from .contest import OURS, Row, contest, timed
from .layers import LAYOUTS
from .peers import FLOOR, PEER, peer_network
from .processes import in_process

_FOLDED = "for_inference"
_BUILDERS: Mapping[str, Callable[[str], nn.Module | None]] = {
    OURS: az.create_model,
    PEER: peer_network,
    FLOOR: partial(az.create_model, filter_size=None),
    _FOLDED: lambda name: az.for_inference(az.create_model(name)),
}


def networks(options: argparse.Namespace) -> Iterator[Row]:
    """Inference of one image (eager) and of a batch; torchvision's plain network is the lower bound."""
    batches = [options.batch] if options.compile else sorted({1, options.batch})
    for name in tqdm(options.networks, "networks", disable=None):
        for batch in batches:
            yield _contest(f"networks, inference, batch {batch}", name, batch, options, network_forward)


def training(options: argparse.Namespace) -> Iterator[Row]:
    """One step of SGD: time, and (on a CPU, in a separate process) peak memory."""
    for name in tqdm(options.networks, "training", disable=None):
        yield _contest(f"networks, training step, batch {options.batch}", name, options.batch, options, training_step)
        if options.device.type == "cpu" and not options.compile:
            yield from _training_memory(name, options)


def _contest(
    table: str,
    name: str,
    batch: int,
    options: argparse.Namespace,
    make: Callable[[nn.Module, Tensor], Callable[[], Any]],
) -> Row:
    table += ", compiled" if options.compile else ""
    folded = make is network_forward and not options.compile
    contestants = [who for who in _BUILDERS if folded or who != _FOLDED]
    if options.compile:
        torch.compiler.reset()  # ResNets share code, of which torch compiles at most eight variants in a process
    makers = {who: partial(_best_layout, who, name, batch, options, make) for who in contestants}
    with options.contestants(makers) as runs:
        return contest(table, name, runs, options.turns)


def _best_layout(
    contestant: str,
    name: str,
    batch: int,
    options: argparse.Namespace,
    make: Callable[[nn.Module, Tensor], Callable[[], Any]],
) -> Callable[[], float] | None:
    """A function that times a contestant's step in the better of its layouts; None if it is not installed."""
    steps = []
    for memory_format in LAYOUTS.values():
        model = _BUILDERS[contestant](name)
        if model is None:
            return None
        model = model.to(options.device, memory_format=memory_format)
        if options.compile:
            model = torch.compile(model)
        x = torch.randn(batch, 3, 224, 224, device=options.device).contiguous(memory_format=memory_format)
        step = make(model, x)
        with contextlib.suppress(RuntimeError):  # the peer's reflection padding may not support channels-last
            step()
            steps.append(step)
    return lambda: min(timed(step, options.device) for step in steps)


def network_forward(model: nn.Module, x: Tensor) -> Callable[[], Any]:
    model.eval()

    def step() -> None:
        with torch.inference_mode():
            model(x)

    return step


def training_step(model: nn.Module, x: Tensor) -> Callable[[], Any]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    labels = torch.zeros(len(x), dtype=torch.long, device=x.device)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return step


_STEP = """
model = model.to(memory_format={layout})
x = torch.randn({batch}, 3, 224, 224).contiguous(memory_format={layout})
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
def step():
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(x), torch.zeros({batch}, dtype=torch.long)).backward()
    optimizer.step()
"""
_OURS = "import antialiased_zoo, torch\nmodel = antialiased_zoo.create_model({name!r})\n"
_PEER = "import antialiased_cnns, torch\nmodel = antialiased_cnns.{name}(pretrained=False, filter_size=4)\n"


def _training_memory(name: str, options: argparse.Namespace) -> Iterator[Row]:
    """Peak memory of the first step beyond that before it; later steps reuse freed memory."""
    sources = {OURS: _OURS, PEER: _PEER} if peer_network(name) else {OURS: _OURS}
    for layout, memory_format in LAYOUTS.items():
        facts = {"name": name, "batch": options.batch, "layout": memory_format}
        scripts = {who: (source + _STEP).format(**facts) for who, source in sources.items()}
        if layout != "NCHW":  # the peer's reflection padding does not always support it
            scripts = {OURS: scripts[OURS], f"{PEER} NCHW": scripts[PEER].replace("channels_last", "contiguous_format")}
        runs = {who: partial(in_process, script, "step()", "memory") for who, script in scripts.items()}
        yield contest(f"networks, training step's peak memory, {layout}", name, runs, 1, "MiB")
