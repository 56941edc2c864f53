"""What a model computes, as `torch.fx` sees it: the graph, and who calls which module and returns what."""

from __future__ import annotations

import inspect
import operator
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AvgPoolNd

from ..layers import Blurred
from . import activations
from .activations import function_name, is_map_norm
from .following import Following
from .own_code import hooks, may_run_its_children, own_classes, rebuilds
from .tracing import Tracer

_AVERAGES = (_AvgPoolNd, _AdaptiveAvgPoolNd)
# Whose networks ask for no module's class or stride while they run.
_KNOWN_LIBRARIES = ("torch.", "torchvision.", "antialiased_zoo.")
# Where the functions of a graph come from that hide no strided op.
_READABLE = ("torch.", "torchvision.ops", "_operator", "builtins", "math")


class UntraceableError(Exception):
    """`torch.fx` cannot follow the model's own forward: its control flow depends on values."""


class Dataflow:
    """The traced graph of a model, with the few questions that the plan asks of it.

    A submodule that cannot be traced is left whole, as one node, and named in ``opaque`` with the
    reason. Tensors that the model makes of its buffers alone are the graph's ``constants``, by the
    names that its nodes give them.

    Args:
        model: The network; it is not run and may be on the meta device.
        training: The mode to read it in; each module's own by default.
        hidden: Ids of modules that are also called by code that is not read.
        after: Ids of modules, and the stride that each will have; None for one that will be
            replaced.

    Raises:
        UntraceableError: If the model's own forward cannot be traced.
    """

    def __init__(
        self,
        model: nn.Module,
        training: bool | None = None,
        hidden: frozenset[int] = frozenset(),
        after: Mapping[int, Any] = MappingProxyType({}),
    ) -> None:
        self.model = model
        self._modules = dict(model.named_modules())
        self.names = _all_names(model)
        self.opaque: dict[str, str] = {}
        classes: frozenset[type[nn.Module]] = frozenset()
        while True:
            self._tracer = tracer = Tracer(classes)
            try:
                self.graph = tracer.trace_model(model, training, after)
                break
            except Exception as error:  # a model's own code may raise anything when it meets a proxy
                failed, where = tracer.failure
                path = where if failed is error else ""
                module = self._modules[path]
                if not path or type(module) in classes:
                    raise UntraceableError(
                        f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                    ) from error
                classes |= {type(module)}
                self.opaque |= {p: str(error) for p, m in self._modules.items() if p and type(m) is type(module)}
        # What their modules return is not what is read: only what reads it can hold a blur.
        self.rebound = _rebind_in_place(self.graph, self.module)
        paths = tracer.submodule_paths or {}
        iterated = {paths[module] for module in tracer.iterated if module in paths}
        self._iterated = iterated | {path for path in self.opaque if may_run_its_children(self._modules[path])}
        self._hidden = hidden | {
            id(inner)
            for path in self.opaque
            for inner in self._modules[path].modules()
            if inner is not self._modules[path]
        }
        new = ((name, value) for name, value in vars(tracer.root).items() if name not in vars(model))
        self.constants = {name: value for name, value in new if isinstance(value, Tensor)}
        self._nodes = list(self.graph.nodes)
        self._followed: dict[tuple[fx.Node, ...], Following] = {}
        self._order = {node: index for index, node in enumerate(self._nodes)}

    def described(self) -> list[str]:
        """The ops with their arguments, to compare graphs by."""
        return [f"{node.op} {node.target} {node.args} {node.kwargs}" for node in self._nodes]

    def stays(self, after: Mapping[int, Any]) -> bool:
        """True if the model runs the same ops when modules have other strides, or are replaced (None)."""
        try:
            return Dataflow(self.model, after=after).described() == self.described()
        except UntraceableError:
            return False

    @property
    def is_library_code(self) -> bool:
        """True if no code but that of known libraries runs: it asks for no module's class or stride."""
        return all(
            "forward" not in vars(module)
            and not any(hooks(module))
            and all(f"{cls.__module__}.".startswith(_KNOWN_LIBRARIES) for cls in own_classes(module))
            for module in self._modules.values()
        )

    def unread(self) -> dict[str, list[str]]:
        """Code that cannot be traced (hooks, functions marked with `torch.fx.wrap`), and the modules that call it."""
        found: dict[str, list[str]] = {}
        for node in self.graph.nodes:
            module = self.module(node)
            if isinstance(module, torch.jit.ScriptModule):
                found.setdefault("TorchScript", []).append(str(node.target))
            for hook in hooks(module):
                found.setdefault(f"the hook {getattr(hook, '__name__', type(hook).__name__)}", []).append(
                    str(node.target)
                )
            if node.op != "call_function" or isinstance(node.target, (type, torch._ops.OpOverload)):
                continue
            if not f"{node.target.__module__}.".startswith(_READABLE):
                found.setdefault(node.target.__name__, []).append(self.owner(node) or "the model")
        return found

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that ``node`` calls, or None."""
        return self._modules[str(node.target)] if node.op == "call_module" else None

    def is_opaque(self, node: fx.Node) -> bool:
        """True if the node is a module that could not be traced."""
        return node.op == "call_module" and str(node.target) in self.opaque

    @cached_property
    def has_attention(self) -> bool:
        """True if the model weighs positions by their products: a softmax of a matrix product, or torch's attention."""
        if any(isinstance(module, nn.MultiheadAttention) for module in self._modules.values()):
            return True
        hidden = [self._modules[path] for path in self.opaque]
        codes = [getattr(type(module).forward, "__code__", None) for module in hidden]
        names = set()
        for node in self.graph.nodes:
            module = self.module(node)
            if node.op == "call_function":
                codes.append(getattr(inspect.unwrap(node.target), "__code__", None))
            names.add("softmax" if isinstance(module, nn.Softmax) else function_name(node.target))
        return _attends(names) or any(_attends(set(code.co_names)) for code in codes if code is not None)

    def is_loose(self, node: fx.Node) -> bool:
        """True for a function that a module runs which is nobody's child: a plain list holds it, say."""
        return node in self._tracer.loose

    def owner(self, node: fx.Node) -> str:
        """Qualified name of the module in whose forward the op stands; "" for the model itself."""
        return self._tracer.owner[node]

    def ndim_before(self, node: fx.Node) -> int | None:
        """Spatial axes of what a node reads, as the nearest convolution before it has them; None without one."""
        found = [node]
        for before in found:  # grows as it goes: the nearest first
            module = self.module(before)
            if before is not node and isinstance(module, _ConvNd):
                return len(module.kernel_size)
            found += [source for source in before.all_input_nodes if source not in found]
        return None

    def is_blurred(self, node: fx.Node) -> bool:
        """True if a blur reads the node's value, beside it in the graph or as the module's own child."""
        return hasattr(self.module(node), "blur_after") or any(
            isinstance(self.module(user), Blurred) for user in node.users
        )

    def called_once(self, path: str) -> bool:
        """True if the model calls the module at ``path`` at just one place, and no code that is not read may."""
        return self._tracer.calls[path] == 1 and id(self._modules[path]) not in self._hidden

    def is_hidden(self, path: str) -> bool:
        """True if code that is not read may call the module at ``path``, too."""
        return id(self._modules[path]) in self._hidden

    @property
    def called(self) -> frozenset[int]:
        """Ids of the modules that the model calls in the code that is read."""
        return frozenset(id(self._modules[path]) for path, count in self._tracer.calls.items() if count)

    def called_above(self, *paths: str) -> str | None:
        """The nearest module above all of some modules that the model calls, and that no method of its own replaces.

        "" is the model itself; None where one of them is the model.
        """
        above = paths[0].rpartition(".")[0] if all(paths) else None
        while above and not (
            self._tracer.calls[above]
            and all(path.startswith(f"{above}.") for path in paths)
            and not rebuilds(self._modules[above])
        ):
            above = above.rpartition(".")[0]
        return above

    def norms_before(self, end: fx.Node, sources: list[fx.Node]) -> tuple[str, ...]:
        """Batch norms among the nodes that follow some maps, up to one of them."""
        members = [node for node in self.follow(*sources).members if self._order[node] <= self._order[end]]
        return tuple(sorted(str(node.target) for node in members if isinstance(self.module(node), _NormBase)))

    def is_fixed(self, node: fx.Node) -> bool:
        """True if the value comes from buffers and constants alone: from no input and no parameter."""
        if node.op == "get_attr":
            return not isinstance(self._attribute(node), nn.Parameter)
        computed = node.op in ("call_function", "call_method")
        return computed and all(map(self.is_fixed, node.all_input_nodes))

    def _attribute(self, node: fx.Node) -> Any:
        name = str(node.target)
        return self.constants[name] if name in self.constants else operator.attrgetter(name)(self.model)

    def is_map_norm(self, node: fx.Node) -> bool:
        """True for norms whose statistics are those of the map itself, as modules or as functions."""
        module = self.module(node)
        own = is_map_norm(module) or isinstance(module, (nn.LayerNorm, nn.RMSNorm))
        return own or function_name(node.target) in activations.MAP_NORM_FUNCTIONS

    def follow(self, *sources: fx.Node) -> Following:
        """What follows the values of some convolutions, in the graph's order, and keeps their places."""
        if sources not in self._followed:
            conv = self.module(sources[0])
            if isinstance(conv, _ConvNd):
                facts: tuple[int, int | None] = (len(conv.kernel_size), conv.out_channels)
            else:
                facts = (self.ndim_before(sources[0]) or 2, self._out_channels(sources[0]))
            self._followed[sources] = Following(sources, self._nodes, *facts, self.module, self._attribute)
        return self._followed[sources]

    def _out_channels(self, node: fx.Node) -> int | None:
        """Channels that a convolution by function returns, where its weight is a tensor of the model."""
        weight = node.args[1] if len(node.args) > 1 else node.kwargs.get("weight")
        if not isinstance(weight, fx.Node) or weight.op != "get_attr":
            return None
        return int(self._attribute(weight).shape[0])

    def first_unfollowed(self, node: fx.Node) -> fx.Node | None:
        """The first op that reads a map, through ops that keep its places, and does not keep them itself."""
        found = self.follow(node)
        readers = {user for member in found.members for user in member.users} - found.members
        pending = {found.pending} if found.pending is not None else set()
        return min(readers | pending, key=self._order.__getitem__, default=None)

    def is_linear_reader(self, node: fx.Node) -> bool:
        """True for ops that are linear but do not keep a map's places: convolutions, averages, a network's end."""
        name, module = function_name(node.target), self.module(node)
        linear = ("conv", "avg_pool", "adaptive_avg_pool", "mean", "linear")
        modules = (_ConvNd, nn.Linear, Blurred, *_AVERAGES)
        return node.op == "output" or isinstance(module, modules) or (module is None and name.startswith(linear))

    def describe(self, node: fx.Node) -> str:
        """A module's class, or a function's name."""
        module = self.module(node)
        return type(module).__name__ if module is not None else str(getattr(node.target, "__name__", node.target))

    def modules_taking(self, node: fx.Node) -> Iterator[str]:
        """Modules around a node that are given what it reads, and give that to nothing else; outermost first."""
        (source, *_) = node.all_input_nodes
        for path in self._tracer.takes[source]:
            readers = [user for user in source.users if f"{self.owner(user)}.".startswith(f"{path}.")]
            if readers == [node] and self.called_once(path) and path not in self._iterated:
                yield path

    def modules_returning(self, node: fx.Node) -> Iterator[str]:
        """Modules called once that hand on the value of ``node`` and do not use it themselves, innermost first.

        Containers, and modules that run their own children in turn, are left out: they would call a
        module added to them as one of their own.
        """
        for path in self._tracer.returns[node]:
            inside = any(f"{self.owner(user)}.".startswith(f"{path}.") for user in node.users)
            if self.called_once(path) and not inside and path not in self._iterated:
                yield path


def _rebind_in_place(graph: fx.Graph, module: Callable[[fx.Node], nn.Module | None]) -> set[fx.Node]:
    """Let what reads a value after an op that changes it in place read that op's value, which is the same tensor.

    Returns:
        The ops whose value is read by another name than what they return.
    """
    order = {node: index for index, node in enumerate(graph.nodes)}
    found = set()
    for node in graph.nodes:
        source = node.args[0] if node.args else None
        if isinstance(source, fx.Node) and _is_in_place(node, module(node)):
            later = [user for user in source.users if order[user] > order[node]]
            source.replace_all_uses_with(node, delete_user_cb=later.__contains__)
            found |= {node} if later else set()
    return found


def _is_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    if node.op == "call_module":
        return getattr(module, "inplace", False) is True
    name = node.target if isinstance(node.target, str) else str(getattr(node.target, "__name__", ""))
    return node.kwargs.get("inplace") is True or (
        node.op in ("call_function", "call_method") and name.endswith("_") and not name.endswith("__")
    )


def _all_names(model: nn.Module) -> dict[str, list[str]]:
    """First name of each module -> all its names."""
    first: dict[int, str] = {}
    names: dict[str, list[str]] = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        names[first.setdefault(id(module), name)].append(name)
    return names


def _attends(names: set[str]) -> bool:
    """True if some functions are those of attention."""
    products = {"matmul", "bmm", "einsum", "baddbmm", "__matmul__"}
    return "scaled_dot_product_attention" in names or ("softmax" in names and not products.isdisjoint(names))
