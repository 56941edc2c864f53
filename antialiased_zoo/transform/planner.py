"""Reads a model, as a whole or part by part, into a plan. Changes nothing."""

from __future__ import annotations

from dataclasses import replace

from torch import nn
from typing_extensions import Unpack

from .graph import Dataflow, UntraceableError
from .ops import read_module
from .options import RuleOptions, Rules
from .plans import Placement, Plan, Site
from .sites import Walk, upsampled
from .upsampling_ops import read_upsampling_module


def plan(model: nn.Module, *, graph: bool = False, **rules: Unpack[RuleOptions]) -> Plan:
    """Find every op of a model that strides, and where its blur belongs.

    The public `plan` adds costs to it, and documents the rest.

    Args:
        model: The network to read; nothing is changed.
        graph: Place blurs between the nodes of a graph instead of beside modules.
        **rules: The options of `antialias_` other than those of the blur itself.

    Raises:
        ValueError: If an option is out of range.
    """
    return _plan(model, Rules(**rules), graph, whole=True)


def _plan(model: nn.Module, rules: Rules, graph: bool, whole: bool) -> Plan:
    try:
        flow = Dataflow(model)
    except UntraceableError as error:
        return _plan_parts(model, rules, f"cannot be traced ({error}): its parts were read one by one")
    unread = flow.unread().items()
    notes = (f"{', '.join(paths)}: calls {name}, which is kept from being traced" for name, paths in unread)
    found = Plan(tuple(Walk(flow, rules, graph, whole).sites()), tuple(notes), graph)
    for path, why in flow.opaque.items():
        part = _plan_parts(
            model.get_submodule(path), rules, f"cannot be traced ({why}): its parts were read one by one"
        )
        found = _joined(found, part, path)
    return found


def _plan_parts(model: nn.Module, rules: Rules, note: str) -> Plan:
    found = Plan(notes=(f"{type(model).__name__} {note}",))
    for name, child in model.named_children():
        op = read_module(child)
        up = read_upsampling_module(child, ndim=None) if rules.upsample is not None else None
        if up is not None:
            site = Site(name, up.kind, up.stride, up.stride, 1, up.out_channels, None, "")
            site = upsampled(child, up, site, rules, hasattr(child, "blur_after"), Placement(name, "after"))
            found = Plan((*found.sites, site) if up.strides else found.sites, found.notes, found.graph)
        elif op is None:
            found = _joined(found, _plan(child, rules, graph=False, whole=False), name)
        elif op.strides:
            reason = "called by code that cannot be traced: what follows it is not known"
            skipped = Site(name, op.kind, op.stride, op.stride, 1, op.out_channels, None, reason)
            found = Plan((*found.sites, skipped), found.notes, found.graph)
    return found


def _joined(outer: Plan, inner: Plan, path: str) -> Plan:
    """Add a part's plan, its names put below the part's."""
    sites = tuple(
        replace(
            site,
            name=f"{path}.{site.name}",
            placement=replace(site.placement, host=f"{path}.{site.placement.host}") if site.placement else None,
        )
        for site in inner.sites
    )
    notes = tuple(f"{path}: {note}" for note in inner.notes)
    return Plan(outer.sites + sites, outer.notes + notes, outer.graph)
