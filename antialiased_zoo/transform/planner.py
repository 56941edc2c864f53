"""Makes a plan from a model, read as a whole or part by part, without changing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from torch import nn
from torch.nn.parameter import is_lazy
from typing_extensions import Unpack

from .graph import Dataflow, first_reading
from .held_modules import taken_apart
from .inner_ops import inner_ops
from .kept_for_code import kept_for_traced, kept_for_untraced
from .links import lost_blurs
from .op_table import read_module
from .ops import Op
from .options import Placing, PlanOptions, read_placing
from .own_code import has_attention, hooks
from .plans import Placement, Plan, Site
from .reached_code import searching_once
from .readings import agreed, alone, is_alone
from .side_effects import PutBack
from .sites import LOOSE, Walk, upsampled
from .traced import UntraceableError
from .upsampling_ops import read_upsampling_module

_ONE_BY_ONE = "right after the convolution: code that cannot be traced may call the modules around it one by one"
# A part's input with more channels than this is not taken for an image.
_IMAGE_CHANNELS = 4


def read_plan(model: nn.Module, *, graph: bool = False, **options: Unpack[PlanOptions]) -> Plan:
    """List every strided op of a model, and where its blur goes; the public `plan` in cost.py adds costs.

    Args:
        model: The network to read; it is not changed.
        graph: Plan for a graph instead of for modules.
        **options: The options of `antialias_` that say where blurs go.

    Raises:
        ValueError: If an option is out of range.
    """
    work = _Work(read_placing(options))
    _check_initialised(model)
    with searching_once(), PutBack(model):
        found = _plan(model, work, graph)
    seen: set[int] = set()
    sites = [
        s for s in found.sites if (s.node and graph) or _is_new(model.get_submodule(s.name.split(":")[0]), s, seen)
    ]
    notes = (f"{name or type(model).__name__}: {what}; antialias_() restores it" for name, what in lost_blurs(model))
    return replace(found, sites=tuple(sites), notes=(*found.notes, *notes))


@dataclass(frozen=True)
class _Work:
    """What planning one model needs everywhere.

    Attributes:
        options: Where blurs go.
        convs: The `Op` of each part that was tried as one convolution, or None.
        plans: The plans of parts. Several readings of the model around them ask for both.
    """

    options: Placing
    convs: dict[nn.Module, Op | None] = field(default_factory=dict)
    plans: dict[tuple[object, ...], Plan] = field(default_factory=dict)

    def once(self, asked: tuple[object, ...], make: Callable[[], Plan]) -> Plan:
        """The plan of what is asked, made the first time."""
        if asked not in self.plans:
            self.plans[asked] = make()
        return self.plans[asked]

    def inner_ops(self, module: nn.Module) -> Plan:
        """The ops inside a module that the plan reads as one op."""
        return self.once((module,), lambda: inner_ops(module))


def _check_initialised(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if any(is_lazy(tensor) for tensor in (*module._parameters.values(), *module._buffers.values())):
            raise ValueError(
                f"{name or 'the model'} is a {type(module).__name__} whose parameters are not initialised: run the "
                "model once on a batch before you antialias it"
            )


def _is_new(module: nn.Module, site: Site, seen: set[int]) -> bool:
    """False for a module that was already seen under another name."""
    if ":" in site.name:
        return True
    known = id(module) in seen
    seen.add(id(module))
    return not known


def _plan(
    model: nn.Module,
    work: _Work,
    graph: bool,
    image: int | None = None,
    hidden: frozenset[int] = frozenset(),
    attends: bool = False,
) -> Plan:
    """Plan a model, or a part of it.

    Args:
        model: The model or part.
        work: The options, and the plans of parts.
        graph: Plan for a graph.
        image: Most channels of a part's input that is taken for an image; None for the model itself.
        hidden: Ids of modules that code which cannot be traced may call too.
        attends: Whether the model that a part belongs to has attention.
    """
    known = _IMAGE_CHANNELS if image is None else image
    if image is not None and _is_container(model):
        return _plan_parts(model, work, known, hidden, attends)
    try:
        flow = first_reading(model, part=image is not None, hidden=hidden, convs=work.convs)
    except UntraceableError as error:
        return _with_note(model, error, _plan_parts(model, work, known, hidden, attends))
    found = _plan_reading(flow, work, graph, image, hidden, attends)
    if graph:  # it does what the model does now
        return found
    flows, plans, readings = [flow], [found], [*flow.with_flags_off(), *flow.other_readings()]
    for reading in readings:  # grows
        try:
            other = Dataflow(model, work.convs, hidden=hidden, **reading)
        except UntraceableError:
            if reading["training"] is not None and reading["given"] == flow.given:
                mode = "training" if reading["training"] else "evaluation"
                plans[0] = replace(plans[0], notes=(*plans[0].notes, f"in {mode} it cannot be traced"))
            continue
        readings += other.with_flags_off()
        if all(other.structure() != known_flow.structure() for known_flow in flows):
            flows.append(other)
            plans.append(_plan_reading(other, work, graph, image, hidden, attends))
    return agreed(model, plans, [each.calls for each in flows]) if len(plans) > 1 else plans[0]


def _plan_reading(
    flow: Dataflow, work: _Work, graph: bool, image: int | None, hidden: frozenset[int], attends: bool
) -> Plan:
    known = _IMAGE_CHANNELS if image is None else image
    untraced = flow.unread().items()
    notes = (f"{', '.join(paths)}: calls {name}, which cannot be traced" for name, paths in untraced)
    walk = Walk(flow, work.options, graph, image, attends)
    sites = walk.sites() if graph else kept_for_traced(walk.sites(), flow)
    if image is None and not graph:
        sites = _with_graph_mentioned(sites, flow, work.options)
    found = Plan(tuple(sites), tuple(notes), graph)
    for path in dict.fromkeys(str(node.target) for node in flow.graph.nodes if node.op == "call_module"):
        found = _joined(found, work.inner_ops(flow.model.get_submodule(path)), path)
    for path, why in flow.opaque.items():
        if path in walk.parts:
            continue
        limit = 0 if path in walk.past_image else known
        inner = flow.model.get_submodule(path)
        part = _plan_parts(inner, work, limit, hidden | flow.called, attends or flow.has_attention)
        found = _joined(found, _with_note(inner, why, part), path)
    return found


def _with_graph_mentioned(sites: list[Site], flow: Dataflow, options: Placing) -> list[Site]:
    """Add to the reason of each skipped op that a graph could treat that it can."""
    if all(site.placement for site in sites):
        return sites
    treated = {site.name for site in Walk(flow, options, graph=True, image=None).sites() if site.placement}
    return [
        replace(site, reason=f"{site.reason} (graph=True can)") if not site.placement and site.name in treated else site
        for site in sites
    ]


def _with_note(model: nn.Module, why: object, found: Plan) -> Plan:
    note = f"{type(model).__name__} cannot be traced ({why}): its parts were read one by one"
    return replace(found, notes=(note, *found.notes))


def _is_container(module: nn.Module) -> bool:
    """True for torch's containers, which have no forward."""
    return isinstance(module, (nn.ModuleList, nn.ModuleDict)) and type(module).forward is nn.Module.forward


def _plan_parts(model: nn.Module, work: _Work, image: int, hidden: frozenset[int], attends: bool) -> Plan:
    """Plan the parts of a model that cannot be traced, once for all readings of what is around it."""
    inside = hidden.intersection(map(id, model.modules()))
    return work.once((model, image, inside, attends), lambda: _read_parts(model, work, image, inside, attends))


def _read_parts(model: nn.Module, work: _Work, image: int, hidden: frozenset[int], attends: bool) -> Plan:
    options = work.options
    attends = attends or any(map(has_attention, model.modules()))
    found = Plan()
    parts = Counter(id(module) for child in model.children() for module in child.modules())
    hidden |= {module for module, count in parts.items() if count > 1}
    for name, held in vars(model).items():
        for path, inner in _contained(held, f":{name}"):
            if id(inner) not in parts:
                found = replace(found, sites=(*found.sites, *_loose(path, inner)))
    for name, child in model.named_children():
        op = read_module(child)
        up = read_upsampling_module(child, ndim=None) if options.upsample is not None else None
        if up is not None:
            site = Site(name, up.kind, up.stride, up.stride, 1, up.out_channels, None, "")
            site = upsampled(child, up, site, options, hasattr(child, "blur_after"), Placement(name, "after"))
            found = Plan((*found.sites, site) if up.strides else found.sites, found.notes, found.graph)
        elif op is None and not _is_torchs(child):
            found = _joined(found, _plan(child, work, False, image, hidden, attends), name)
        elif op is not None and op.strides:
            reason = "called by code that cannot be traced: what follows it is not known"
            skipped = Site(name, op.kind, op.stride, op.stride, 1, op.out_channels, None, reason)
            found = Plan((*found.sites, skipped), found.notes, found.graph)
        if op is not None or up is not None:  # otherwise it has been read
            found = _joined(found, work.inner_ops(child), name)
    found = _called_one_by_one(model, found)
    return replace(found, sites=tuple(kept_for_untraced(found.sites, model)))


def _is_torchs(module: nn.Module) -> bool:
    """True for a single module of torch without hooks, such as a linear layer: there is nothing in it to read."""
    return type(module).__module__.startswith("torch.nn.modules.") and not (
        module._modules or "forward" in vars(module) or any(hooks(module))
    )


def _called_one_by_one(model: nn.Module, found: Plan) -> Plan:
    """Put blurs right after their convolutions in modules whose children the model's own code may call one by one."""
    apart = [site.placement is not None and not is_alone(site) for site in found.sites]
    if not any(apart):
        return found
    taken = taken_apart(model)
    keepers = [None if site.keeper is None else id(model.get_submodule(site.keeper)) for site in found.sites]
    sites = [
        alone(model, site, _ONE_BY_ONE) if is_apart and keeper in taken else site
        for site, is_apart, keeper in zip(found.sites, apart, keepers, strict=True)
    ]
    return replace(found, sites=tuple(sites))


def _contained(held: object, path: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules in a plain list, tuple or dict, and in those inside it, with their paths."""
    items = held.items() if isinstance(held, dict) else enumerate(held) if isinstance(held, (list, tuple)) else ()
    for key, item in items:
        if isinstance(item, nn.Module):
            yield f"{path}.{key}", item
        else:
            yield from _contained(item, f"{path}.{key}")


def _loose(name: str, module: nn.Module) -> Iterator[Site]:
    """Yield the strided ops in a module that is not a registered child."""
    for path, inner in module.named_modules(prefix=name):
        op = read_module(inner)
        if op is not None and op.strides:
            yield Site(path, op.kind, op.stride, op.stride, 1, op.out_channels, None, LOOSE)


def _joined(outer: Plan, inner: Plan, path: str) -> Plan:
    """Add the plan of a part, with its names prefixed by the part's path."""
    sites = tuple(
        replace(
            site,
            name=f"{path}{'' if site.name.startswith(':') else '.'}{site.name}",
            placement=replace(site.placement, host=f"{path}.{site.placement.host}") if site.placement else None,
            shares=f"{path}.{site.shares}" if site.shares else "",
            part=f"{path}.{site.part}" if site.part else "",
            norms=tuple(f"{path}.{norm}" for norm in site.norms),
            node="",  # it belongs to the part's own graph
            keeper=None if site.keeper is None else f"{path}.{site.keeper}".rstrip("."),
        )
        for site in inner.sites
    )
    notes = tuple(f"{path}: {note}" for note in inner.notes)
    return Plan(outer.sites + sites, outer.notes + notes, outer.graph)
