"""Applies a plan to a model's graph: blurs become nodes of a `torch.fx.GraphModule`."""

from __future__ import annotations

import itertools
from typing import Any, cast

from torch import fx, nn

from .downsamplers import Downsampler
from .graph import first_reading
from .graph_losses import warn_of_losses
from .module_form import apply_site, blur_of, like_model, share_hooks
from .plans import Plan, Site


def apply_to_graph(model: nn.Module, found: Plan, way: Downsampler) -> fx.GraphModule:
    """Insert blurs between the nodes of the model's graph; parts that cannot be traced are treated as modules."""
    flow = first_reading(model, part=False, watches=True)
    warn_of_losses(model, flow)
    graph = flow.graph
    for name, tensor in flow.constants.items():
        model.register_buffer(name, tensor, persistent=False)
    nodes = {node.name: node for node in graph.nodes}
    names = (f"blur_{index}" for index in itertools.count())  # some may exist from an earlier call
    for site in found.treated:
        if not site.node:
            apply_site(model, site, way, found)
            continue
        if not site.shares:
            path = next(name for name in names if not hasattr(model, name))
            blur = like_model(model, model, blur_of(site, way))
            model.add_module(path, blur)
            if site.placement and site.placement.where == "instead" and (pool := flow.module(nodes[site.node])):
                share_hooks(pool, blur)
            _rewire(graph, nodes, site, path)
        if site.placement and site.placement.where != "instead" and site.keep != site.stride:
            _set_stride(model, nodes[site.node], site)
    graph.lint()
    made = fx.GraphModule(model, graph, type(model).__name__)
    for name, tensor in flow.constants.items():
        if isinstance(tensor, nn.Parameter):  # of a module in a plain list: stays out of the state dict
            delattr(made, name)
            vars(made)[name] = tensor
    _keep_unused(model, made)
    share_hooks(model, made)
    return made


def _keep_unused(model: nn.Module, made: fx.GraphModule) -> None:
    """Add the tensors that the graph does not use (auxiliary heads, for example), since checkpoints hold them."""
    known = made.state_dict()
    for key, tensor in model.state_dict(keep_vars=True).items():
        if key in known:
            continue
        *path, name = key.split(".")
        module: nn.Module = made
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        if isinstance(tensor, nn.Parameter):
            module.register_parameter(name, tensor)
        else:
            module.register_buffer(name, tensor)


def _rewire(graph: fx.Graph, nodes: dict[str, fx.Node], site: Site, path: str) -> None:
    placement = cast(Any, site.placement)
    host = nodes[placement.host]
    source = cast(fx.Node, host.args[0] if host.args else host.kwargs["input"])
    if placement.where == "before":
        with graph.inserting_before(host):
            host.replace_input_with(source, graph.call_module(path, (source,)))
        return
    with graph.inserting_after(host):
        blurred = graph.call_module(path, (host if placement.where == "after" else source,))
    host.replace_all_uses_with(blurred, delete_user_cb=lambda user: user is not blurred)
    if placement.where == "instead":
        graph.erase_node(host)


def _set_stride(model: nn.Module, node: fx.Node, site: Site) -> None:
    if node.op == "call_module":
        cast(nn.Conv2d, model.get_submodule(site.name)).stride = site.keep
    elif len(node.args) > 3:  # (input, weight, bias, stride, ...)
        node.update_arg(3, site.keep)
    else:
        node.update_kwarg("stride", site.keep)
