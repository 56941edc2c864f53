"""A network's body as a chain of units, for layer groups, gradient checkpointing and feature maps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from torch import nn

from ..transform import check_blurs
from .registry import Layout

Unit = tuple[str, nn.Module]


def units(model: nn.Module, layout: Layout) -> list[Unit]:
    """The modules of the body with their qualified names; applied in order, they compute the body."""
    return list(_expanded((name, model.get_submodule(name)) for name in layout.body))


def containers(model: nn.Module, layout: Layout) -> Iterator[Unit]:
    """Yield the network and the containers of its body that `units` expands, with their qualified names."""
    yield "", model
    chain = [(name, model.get_submodule(name)) for name in layout.body]
    while chain:
        name, module = chain.pop(0)
        if _is_plain(module):
            yield name, module
            chain += [(f"{name}.{child}", part) for child, part in module.named_children()]


def _is_plain(module: nn.Module) -> bool:
    """True if a container only applies its children in order.

    A subclass may do more, and hooks act on the whole container, except the transform's check.
    """
    hooks = {*module._forward_pre_hooks.values(), *module._forward_hooks.values()}
    return type(module) is nn.Sequential and hooks <= {check_blurs}


def _expanded(chain: Iterable[Unit]) -> Iterator[Unit]:
    for name, module in chain:
        if _is_plain(module):
            yield from _expanded((f"{name}.{child}", part) for child, part in module.named_children())
        else:
            yield name, module


def stage_ends(chain: Iterable[Unit], layout: Layout) -> dict[str, str]:
    """The layout's stages, keyed by the last unit of each."""
    names = [name for name, _ in chain]
    ends = {}
    for stage in layout.stages:
        inside = [name for name in names if f"{name}.".startswith(f"{stage}.")]
        if not inside:
            raise ValueError(f"the network has no module {stage!r}, which the registry names as a stage")
        ends[inside[-1]] = stage
    return ends


def segments(model: nn.Module, layout: Layout) -> list[list[Unit]]:
    """The units in groups that end at the layout's stages; a block of several convolutions is a separate group."""
    chain = units(model, layout)
    ends = stage_ends(chain, layout)
    groups: list[list[Unit]] = [[]]
    for name, module in chain:
        is_block = sum(isinstance(part, nn.Conv2d) for part in module.modules()) > 1
        if is_block:
            groups.append([])
        groups[-1].append((name, module))
        if is_block or name in ends:
            groups.append([])
    return [group for group in groups if group]


def layer_patterns(model: nn.Module, layout: Layout, coarse: bool) -> list[str]:
    """Regular expressions for the names of the body's parameters, from the image to the head."""
    chain = units(model, layout)
    ends = stage_ends(chain, layout)
    groups: list[list[str]] = [[]]
    for name, module in chain:
        if not coarse and any(isinstance(part, nn.Conv2d) for part in module.modules()):
            groups.append([])  # a norm belongs to the convolution before it
        if next(module.parameters(), None) is not None:
            groups[-1].append(name)
        if coarse and name in ends:
            groups.append([])
    return [rf"^(?:{'|'.join(map(re.escape, group))})\." for group in groups if group]
