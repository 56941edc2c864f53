"""Strided ops inside the forward of convolutions and pools with code of their own, which the plan reads as one op."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from .graph import Dataflow, first_reading
from .op_table import read_module, read_op
from .ops import Op
from .plans import Plan, Site
from .reached_code import codes_of, reached_functions
from .traced import UntraceableError

_REASON = "inside the forward of a {}, which is treated as one op"
# Parts of the names of functions that stride, other than the op itself.
_STRIDING = ("_pool", "interpolate", "unfold", "unshuffle")


def inner_ops(module: nn.Module) -> Plan:
    """The strided ops in a convolution's or pool's own forward besides the one that its attributes describe."""
    if not _has_own_forward(module):
        return Plan()
    own, reason = read_module(module), _REASON.format(type(module).__name__)
    try:
        flow = first_reading(module, part=True)
        ops, unread = [*_traced(flow, own)], flow.opaque
    except UntraceableError as error:
        ops, unread = [], {"": str(error)}
    notes = []
    for path, why in unread.items():
        part, prefix = module.get_submodule(path), f"{path}: " if path else ""
        ops += _held(part, path)
        if _names_striding(part):
            notes.append(f"{prefix}{type(part).__name__} cannot be traced ({why}): only the modules in it were read")
    sites = (Site(name, op.kind, op.stride, op.stride, 1, op.out_channels, None, reason) for name, op in ops)
    return Plan(tuple(site for site in sites if max(site.stride, default=2) > 1), tuple(notes))


def _traced(flow: Dataflow, own: Op | None) -> Iterator[tuple[str, Op]]:
    for node in flow.graph.nodes:
        module = flow.module(node)
        op = read_op(node, module)
        if op is None:
            continue
        if module is not None:
            yield str(node.target), op
        elif own is None or (op.kind, op.stride) != (own.kind, own.stride):
            yield f"{flow.owner(node)}:{node.name}", op


def _held(module: nn.Module, path: str) -> Iterator[tuple[str, Op]]:
    for name, inner in module.named_modules(prefix=path):
        op = read_module(inner) if inner is not module else None
        if op is not None:
            yield name, op


def _names_striding(module: nn.Module) -> bool:
    names = (name for function in reached_functions(module) for code in codes_of(function) for name in code.co_names)
    return any(part in name for name in names for part in _STRIDING)


def _has_own_forward(module: nn.Module) -> bool:
    if not isinstance(module, (_ConvNd, _MaxPoolNd, _AvgPoolNd)):
        return False
    methods = [getattr(module, name) for name in ("forward", "_conv_forward") if hasattr(module, name)]
    return not all(str(getattr(method, "__module__", "")).startswith("torch.") for method in methods)
