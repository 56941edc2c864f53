"""Sites whose class or stride the model's code reads: convolutions stay strided, and pools stay where they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from torch import nn

from .graph import Dataflow
from .own_code import hook_may_read_strides, hooks, may_read_classes, may_read_strides
from .plans import Site

_READ = "the model's own code reads its stride, and would behave differently"
_MAY_READ = "code that cannot be traced may read its stride, and would behave differently"
_STAYS = "the pool stays, since the model{} its class or stride"


def kept_for_traced(sites: list[Site], flow: Dataflow) -> list[Site]:
    """Keep what a traced model's own code reads: convolutions by their stride, pools by their class or stride.

    The networks of torch, torchvision and this package read neither.
    """
    if flow.is_library_code:
        return sites
    asked = any(map(may_read_classes, flow.hooks_of_parts))
    sites = [_within(s, "'s hook may read") or s if asked or _is_hooked(flow.model, s) else s for s in sites]
    if any(map(hook_may_read_strides, flow.hooks_of_parts)):
        sites = [
            _left(site, _MAY_READ) if site.keep != site.stride and not _is_replaced(site) else site for site in sites
        ]
    changes = {
        site.name: {id(flow.model.get_submodule(site.name)): None if _is_replaced(site) else site.keep}
        for site in sites
        if _is_replaced(site) or (site.placement is not None and site.keep != site.stride)
    }
    if not changes or flow.stays({key: value for change in changes.values() for key, value in change.items()}):
        return sites
    read = {name for name, change in changes.items() if not flow.stays(change)}
    return [
        site if site.name not in read else _within(site, "'s own code reads") or _left(site, _READ) for site in sites
    ]


def kept_for_untraced(sites: Iterable[Site], model: nn.Module) -> list[Site]:
    """Keep all pools of a model that cannot be traced, and its convolutions if it may read their strides."""
    sites = [_within(site, "'s own code may read") or site for site in sites]
    if may_read_strides(model):
        sites = [_left(site, _MAY_READ) if site.keep != site.stride else site for site in sites]
    return sites


def _is_hooked(model: nn.Module, site: Site) -> bool:
    return ":" not in site.name and any(hooks(model.get_submodule(site.name)))


def _is_replaced(site: Site) -> bool:
    return site.placement is not None and site.placement.where == "instead"


def _within(site: Site, reads: str) -> Site | None:
    """Change a replaced pool's site: the pool stays, its replacement computes its output. None for other sites."""
    if site.placement is None or not _is_replaced(site):
        return None
    placement = replace(site.placement, where="within")
    return replace(site, keep=site.stride, placement=placement, reason=f"{site.reason}; {_STAYS.format(reads)}")


def _left(site: Site, reason: str) -> Site:
    return replace(site, keep=site.stride, placement=None, shares="", reason=reason)
