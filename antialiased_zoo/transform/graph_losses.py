"""What a model's code does that its graph does not."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ..errors import warn
from .own_code import hooks
from .traced import TracedModel, UntraceableError


def warn_of_losses(model: nn.Module, flow: TracedModel) -> None:
    """Warn of what is lost when a model becomes the graph that was traced from it."""
    _warn_of_modes(model, flow)
    if lost := [f"{what} ({_some(paths)})" for what, paths in (*_surroundings(flow), *_hooks(model, flow))]:
        warn(
            f"the graph of {type(model).__name__} does not record what surrounds its ops, and runs without "
            f"{'; '.join(lost)}. With graph=False the model keeps its own code"
        )


def _warn_of_modes(model: nn.Module, flow: TracedModel) -> None:
    """Warn if the model's code differs between training and evaluation, which a graph cannot express."""
    try:
        same = TracedModel(model, not model.training, given=flow.given).described() == flow.described()
    except UntraceableError:
        same = False
    if not same:
        name, mode, other = type(model).__name__, *(("training", "eval") if model.training else ("evaluation", "train"))
        warn(
            f"the code of {name} differs between training and evaluation (functional dropout, for example): the graph "
            f"always does what it does in {mode}, also after {other}(); call {other}() before for the other"
        )


def _surroundings(flow: TracedModel) -> Iterator[tuple[str, list[str]]]:
    """Yield what was active around some ops but not around the trace, with the modules that it was active in."""
    for what, outside in flow.surroundings[None].items():
        nodes = [node for node, active in flow.surroundings.items() if node is not None and active[what] != outside]
        if nodes:
            yield what, [str(node.target) if node.op == "call_module" else flow.owner(node) for node in nodes]


def _hooks(model: nn.Module, flow: TracedModel) -> Iterator[tuple[str, list[str]]]:
    """Yield the modules with hooks whose calls are not nodes of the graph."""
    nodes = {str(node.target) for node in flow.graph.nodes if node.op == "call_module"}
    inside = ((name, m) for name, m in model.named_modules() if name and name not in nodes and id(m) in flow.called)
    hooked = [name for name, m in inside if any(hooks(m)) or m._backward_hooks or m._backward_pre_hooks]
    if hooked:
        yield "the hooks of modules that become several ops", hooked


def _some(paths: list[str]) -> str:
    named = list(dict.fromkeys(path or "the model" for path in paths))
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
