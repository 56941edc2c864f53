"""Layers: every distinct blur site of the networks, forward and with backward, in both layouts."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import antialiased_zoo as az

from .contest import OURS, Row, contest, timed
from .peers import LAYER_PEERS, layer_peer, works

_COPY = "copy"
# Milliseconds of calls in a turn: a process that has waited takes some time to reach full speed.
_TURN = 30
_CALLS = (3, 100)
LAYOUTS = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}


def blur_sites(names: Sequence[str], batch: int) -> dict[tuple[type[nn.Module], torch.Size], nn.Module]:
    """Every distinct blur layer and input shape in the networks, for images of 224x224."""
    sites: dict[tuple[type[nn.Module], torch.Size], nn.Module] = {}

    def note(module: nn.Module, args: tuple[Tensor]) -> None:
        sites.setdefault((type(module), torch.Size([batch, *args[0].shape[1:]])), module)

    for name in names:
        model = az.create_model(name).eval()
        blurs = [module for module in model.modules() if isinstance(module, (az.Downsample, az.MaxBlurPool2d))]
        hooks = [module.register_forward_pre_hook(note) for module in blurs]
        with torch.inference_mode():
            model(torch.randn(1, 3, 224, 224))
        for hook in hooks:
            hook.remove()
    return sites


def layers(options: argparse.Namespace) -> Iterator[Row]:
    """Each site; "copy" is torch's copy of the input into allocated memory, the cost of the memory traffic."""
    for (_, shape), layer in tqdm(blur_sites(options.networks, options.batch).items(), "layers", disable=None):
        for layout in LAYOUTS:
            yield from _site(layer, shape, layout, options)


def _site(layer: nn.Module, shape: torch.Size, layout: str, options: argparse.Namespace) -> Iterator[Row]:
    names = (OURS, *LAYER_PEERS, _COPY)
    makers = {name: partial(_contestant, name, layer, shape, layout, options.device) for name in names}
    case = f"{type(layer).__name__} {tuple(shape)}"
    with options.contestants(makers) as runs:
        for mode in ("forward", "forward + backward"):
            takers = {name: partial(run, mode) for name, run in runs.items() if name != _COPY or mode == "forward"}
            yield contest(f"layers, {layout}, {mode}", case, takers, options.turns)


def _contestant(
    name: str, layer: nn.Module, shape: torch.Size, layout: str, device: torch.device
) -> Callable[[str], float] | None:
    """A function that times a contestant's step in a mode; None if it is missing or does not support the input."""
    x = torch.randn(shape, device=device).contiguous(memory_format=LAYOUTS[layout])
    if name == _COPY:
        steps = {"forward": partial(torch.empty_like(x).copy_, x)}
    else:
        module = layer if name == OURS else layer_peer(name, layer, shape[1])
        if module is None or not works(module.to(device), x):
            return None
        steps = {mode: step_of(module, x, mode) for mode in ("forward", "forward + backward")}
    return lambda mode: _turn(steps[mode], device)


def _turn(step: Callable[[], Any], device: torch.device) -> float:
    once = min(timed(step, device) for _ in range(2))
    least, most = _CALLS
    return timed(step, device, calls=max(least, min(most, round(_TURN / once))))


def step_of(module: nn.Module, x: Tensor, mode: str) -> Callable[[], Any]:
    def forward() -> None:
        with torch.inference_mode():
            module(x)

    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()

    def both() -> None:
        leaf.grad = None
        module(leaf).sum().backward()

    return forward if mode == "forward" else both
