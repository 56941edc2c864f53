"""The dataflow of a traced model: what follows and precedes its ops."""

from __future__ import annotations

import inspect
import operator
from functools import cached_property
from typing import Any

from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AvgPoolNd

from ..layers import Blurred
from . import activations
from .activations import function_name, is_map_norm
from .conv_parts import conv_of_part
from .following import Following
from .node_runner import NodeRunner
from .op_table import read_op
from .ops import Op
from .own_code import are_attentions, has_attention
from .signatures import choices
from .traced import TracedModel, UntraceableError

_AVERAGES = (_AvgPoolNd, _AdaptiveAvgPoolNd)


class Dataflow(TracedModel):
    """A traced model, with the properties of its dataflow that the plan needs.

    Args:
        model: The network.
        convs: The `Op` of each part that was tried, for all readings of a model; it grows.
        **how: See `TracedModel`.
    """

    def __init__(self, model: nn.Module, convs: dict[nn.Module, Op | None] | None = None, **how: Any) -> None:
        super().__init__(model, **how)
        self._convs = {} if convs is None else convs

    @cached_property
    def _followed(self) -> dict[tuple[fx.Node, ...], Following]:
        return {}

    def op(self, node: fx.Node) -> Op | None:
        """The `Op` of a node that may stride, else None; also of a part that could not be traced but is one op."""
        path, part = str(node.target), self.module(node)
        if part is None or not self.is_opaque(node):
            return read_op(node, part)
        if part not in self._convs:
            self._convs[part] = conv_of_part(part)
        found = self._convs[part]
        own = found is not None and all(self.is_called_by_owner(f"{path}.{inner}") for inner in found.strided)
        return found if own else None

    @cached_property
    def has_attention(self) -> bool:
        """True if the model seems to have attention: torch's own, or a softmax and a matrix product."""
        if any(isinstance(module, nn.MultiheadAttention) for module in self._modules.values()):
            return True
        names = set()
        for node in self.graph.nodes:
            if node.op == "call_function":
                code = getattr(inspect.unwrap(node.target), "__code__", None)
                names |= set(code.co_names) if code is not None else set()
            names.add("softmax" if isinstance(self.module(node), nn.Softmax) else function_name(node.target))
        hidden = (inner for path in self.opaque for inner in self._modules[path].modules())
        return are_attentions(names) or any(map(has_attention, hidden))

    def ndim_before(self, node: fx.Node) -> int | None:
        """Number of spatial axes of a node's input, taken from the nearest convolution before it; None without one."""
        found = [node]
        for before in found:  # grows, nearest first
            module = self.module(before)
            if before is not node and isinstance(module, _ConvNd):
                return len(module.kernel_size)
            found += [source for source in before.all_input_nodes if source not in found]
        return None

    def is_blurred(self, node: fx.Node) -> bool:
        """True if a blur reads the node's value, as a node of the graph or as a child of the node's module."""
        return hasattr(self.module(node), "blur_after") or any(
            isinstance(self.module(user), Blurred) for user in node.users
        )

    def norms_before(self, end: fx.Node, sources: list[fx.Node]) -> tuple[str, ...]:
        """Names of the batch norms between some convolutions and a node that follows them."""
        members = [node for node in self.follow(*sources).members if self._order[node] <= self._order[end]]
        return tuple(sorted(str(node.target) for node in members if isinstance(self.module(node), _NormBase)))

    def is_fixed(self, node: fx.Node) -> bool:
        """True if the node's value depends on no input and no parameter, only on buffers and constants."""
        if node.op == "get_attr":
            return not isinstance(self._attribute(node), nn.Parameter)
        computed = node.op in ("call_function", "call_method")
        return computed and all(map(self.is_fixed, node.all_input_nodes))

    def _attribute(self, node: fx.Node) -> Any:
        name = str(node.target)
        return self.constants[name] if name in self.constants else operator.attrgetter(name)(self.model)

    def is_map_norm(self, node: fx.Node) -> bool:
        """True for a norm, module or function, that takes its statistics from the map itself."""
        module = self.module(node)
        own = is_map_norm(module) or isinstance(module, (nn.LayerNorm, nn.RMSNorm))
        return own or function_name(node.target) in activations.MAP_NORM_FUNCTIONS

    def follow(self, *sources: fx.Node) -> Following:
        """The pointwise nodes that follow one convolution or the sum of several, given in the graph's order."""
        if sources not in self._followed:
            op = self.op(sources[0])
            channels = op.out_channels if op and op.out_channels else self._out_channels(sources[0])
            facts = (len(op.stride) if op else 2, channels)
            self._followed[sources] = Following(sources, self._nodes, *facts, self.runner())
        return self._followed[sources]

    def runner(self) -> NodeRunner:
        """Runs the graph's nodes on small random maps; two runners give the same values."""
        return NodeRunner(self.module, self._attribute)

    def _out_channels(self, node: fx.Node) -> int | None:
        """Output channels of a functional convolution; None if its weight is not a tensor of the model."""
        weight = node.args[1] if len(node.args) > 1 else node.kwargs.get("weight")
        if not isinstance(weight, fx.Node) or weight.op != "get_attr":
            return None
        return int(self._attribute(weight).shape[0])

    def unfollowed(self, node: fx.Node) -> list[fx.Node]:
        """The nodes that read a convolution, possibly through pointwise nodes, and are not pointwise themselves."""
        found = self.follow(node)
        readers = {user for member in found.members for user in member.users} - found.members
        pending = {found.pending} if found.pending is not None else set()
        return sorted(readers | pending, key=self._order.__getitem__)

    def is_linear_reader(self, node: fx.Node) -> bool:
        """True for linear ops that are not pointwise (convolutions, averages), and for the model's output."""
        name, module = function_name(node.target), self.module(node)
        linear = ("conv", "avg_pool", "adaptive_avg_pool", "mean", "linear")
        modules = (_ConvNd, nn.Linear, Blurred, *_AVERAGES)
        return node.op == "output" or isinstance(module, modules) or (module is None and name.startswith(linear))

    def describe(self, node: fx.Node) -> str:
        """Class name of the node's module, or name of its function."""
        module = self.module(node)
        return type(module).__name__ if module is not None else str(getattr(node.target, "__name__", node.target))


def first_reading(model: nn.Module, *, part: bool, **how: Any) -> Dataflow:
    """Read a model as it is called without optional arguments or, if it cannot be, with those that are None."""
    try:
        return Dataflow(model, part=part, **how)
    except UntraceableError:
        needed = [name for name, default in choices(model).items() if default is None]
        if not needed:
            raise
        return Dataflow(model, part=part, given=tuple(needed), **how)
