"""Joins the plans of a model's readings: of both modes, with and without optional arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import nn

from .op_table import read_module
from .plans import Placement, Plan, Site

_ALONE = "right after the convolution: what follows it depends on the mode or on optional arguments"


def agreed(model: nn.Module, plans: Sequence[Plan], calls: Sequence[Callable[[str], bool]]) -> Plan:
    """One plan that is right in every reading.

    Args:
        model: The model.
        plans: The plan of each reading, first the model's current one.
        calls: For each reading, a function that tells whether it calls the module of a name.
    """
    by_name: dict[str, list[Site | None]] = {}
    for index, plan in enumerate(plans):
        for site in plan.sites:
            by_name.setdefault(site.name, [None] * len(plans))[index] = site
    found = {name: _joined(model, sites, calls) for name, sites in by_name.items()}
    changed = {site.placement for sites in by_name.values() for site in sites if site and _differs(site, found)}
    sites = [alone(model, s, _ALONE) if s.branch and s.placement in changed else s for s in found.values()]
    notes = dict.fromkeys(note for plan in plans for note in plan.notes)
    return replace(plans[0], sites=tuple(sites), notes=tuple(notes))


def alone(model: nn.Module, site: Site, reason: str) -> Site:
    """The site with its blur at the convolution itself, which is right whatever runs before and after it."""
    if site.placement is None or is_alone(site):
        return site
    if site.part:
        return replace(site, placement=Placement(site.part, "after"), channels=None, reason=reason, norms=())
    op = read_module(model.get_submodule(site.name))
    channels = op.out_channels if op is not None else None
    placement = Placement(site.name, "after")
    return replace(site, placement=placement, channels=channels, reason=reason, branch=False, shares="", norms=())


def is_alone(site: Site) -> bool:
    """True for a blur at the op itself."""
    return site.placement is not None and site.placement.host == (site.part or site.name)


def _joined(model: nn.Module, sites: Sequence[Site | None], calls: Sequence[Callable[[str], bool]]) -> Site:
    first, *others = present = [site for site in sites if site is not None]
    left = next((site for site in present if site.placement is None), None)
    if left is not None:
        return left
    for site in present:
        if is_alone(site):
            return site if _agree(present) else _explained(site)
    used = (site is None and called(_host(first)) for site, called in zip(sites, calls, strict=True))
    if not _agree(present) or any(used):
        return alone(model, first, _ALONE)
    norms = dict.fromkeys(norm for site in present for norm in site.norms)
    channels = first.channels if all(site.channels == first.channels for site in others) else None
    return replace(first, norms=tuple(norms), channels=channels)


def _agree(sites: Sequence[Site]) -> bool:
    return all(_decision(site) == _decision(sites[0]) for site in sites)


def _explained(site: Site) -> Site:
    """A site at the op itself, whose own reason holds in one of several readings only."""
    is_after = site.placement is not None and site.placement.where == "after"
    return replace(site, reason=_ALONE) if is_after else site


def _host(site: Site) -> str:
    return site.placement.host if site.placement else ""


def _decision(site: Site) -> tuple[object, ...]:
    return (site.placement, site.keep, site.blur_stride, site.offsets, site.branch, site.shares)


def _differs(site: Site, found: dict[str, Site]) -> bool:
    """True for a branch that no longer shares the blur of a sum."""
    return site.branch and found[site.name].placement != site.placement
