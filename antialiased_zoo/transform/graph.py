"""What a model computes, as `torch.fx` sees it: the graph, and who calls which module and returns what."""

from __future__ import annotations

import inspect
import operator
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AvgPoolNd

from ..layers import Blurred
from . import activations
from .activations import Role, function_name, is_map_norm, role_of_function, role_of_module
from .tracing import Tracer

_AVERAGES = (_AvgPoolNd, _AdaptiveAvgPoolNd)
_TUPLES = ("chunk", "split", "tensor_split")
_CHANNELS = (*_TUPLES, "cat", "concat", "glu", "getitem")
# Functions whose other arguments hold a number for each channel.
_BY_CHANNEL = ("batch_norm", "prelu")
# Where the functions of a graph come from that hide no strided op.
_READABLE = ("torch.", "torchvision.ops", "_operator", "builtins", "math")


class UntraceableError(Exception):
    """`torch.fx` cannot follow the model's own forward: its control flow depends on values."""


class Dataflow:
    """The traced graph of a model, with the few questions that the plan asks of it.

    A submodule that cannot be traced is left whole, as one node, and named in ``opaque`` with the reason. Tensors that
    the model makes of its buffers alone are the graph's ``constants``, by the names that its nodes give them.

    Args:
        model: The network; it is not run and may be on the meta device.
        training: The mode to read it in; the model's own by default.

    Raises:
        UntraceableError: If the model's own forward cannot be traced.
    """

    def __init__(self, model: nn.Module, training: bool | None = None) -> None:
        self.model = model
        self._modules = dict(model.named_modules())
        self.names = _all_names(model)
        self.opaque: dict[str, str] = {}
        classes: frozenset[type[nn.Module]] = frozenset()
        while True:
            self._tracer = tracer = Tracer(classes)
            try:
                self.graph = tracer.trace_model(model, model.training if training is None else training)
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
                self.opaque |= {p: str(error) for p, m in self._modules.items() if type(m) is type(module)}
        new = ((name, value) for name, value in vars(tracer.root).items() if name not in vars(model))
        self.constants = {name: value for name, value in new if isinstance(value, Tensor)}
        self._nodes = list(self.graph.nodes)
        self._order = {node: index for index, node in enumerate(self._nodes)}

    def unread(self) -> dict[str, list[str]]:
        """Functions that the model keeps from being traced (`torch.fx.wrap`), and the modules that call each."""
        found: dict[str, list[str]] = {}
        for node in self.graph.nodes:
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
        """True if the model calls the module at ``path`` at just one place."""
        return self._tracer.calls[path] == 1

    def called_above(self, *paths: str) -> str | None:
        """The nearest module above all of some modules that the model calls; None above the model itself."""
        above = paths[0].rpartition(".")[0] if all(paths) else None
        while above and not (self._tracer.calls[above] and all(path.startswith(f"{above}.") for path in paths)):
            above = above.rpartition(".")[0]
        return above

    def is_fixed(self, node: fx.Node) -> bool:
        """True if the value comes from buffers and constants alone: from no input and no parameter."""
        if node.op == "get_attr":
            return not isinstance(self._attribute(node), nn.Parameter)
        computed = node.op in ("call_function", "call_method")
        return computed and all(map(self.is_fixed, node.all_input_nodes))

    def _attribute(self, node: fx.Node) -> Any:
        name = str(node.target)
        return self.constants[name] if name in self.constants else operator.attrgetter(name)(self.model)

    def _is_per_channel(self, node: fx.Node, ndim: int) -> bool:
        """True for a value that comes from no input and is the same at each place of a map of ``ndim`` axes."""
        try:
            shape = self._evaluated(node).shape
        except Exception:  # it depends on an input, or is no tensor
            return False
        places = [size for axis, size in enumerate(shape, start=-len(shape)) if axis not in (-1 - ndim, -2 - ndim)]
        return all(size == 1 for size in places)

    def _evaluated(self, node: Any) -> Any:
        """A value that comes from no input, on the meta device."""
        if not isinstance(node, fx.Node):
            return node
        if node.op == "get_attr":
            value = self._attribute(node)
            return value.detach().to("meta") if isinstance(value, Tensor) else value
        if node.op not in ("call_function", "call_method"):
            raise ValueError(f"{node} depends on an input")
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._evaluated)
        target: Any = node.target
        return getattr(args[0], target)(*args[1:], **kwargs) if isinstance(target, str) else target(*args, **kwargs)

    def _role(self, node: fx.Node, read: set[fx.Node], ndim: int) -> Role | None:
        """What a node does at each place of the map that ``read`` holds; None if it does not keep the places."""
        if node.op == "call_module":
            module = self.module(node)
            return None if module is None else role_of_module(module)
        if node.op not in ("call_function", "call_method"):
            return None
        inputs = node.all_input_nodes
        name = function_name(node.target)
        if not all(n in read or name in _BY_CHANNEL or self._is_per_channel(n, ndim) for n in inputs):
            return None
        if node.target is operator.getitem:  # of a chunk, or a slice of the channels
            whole = slice(None)
            of_tuple = function_name(inputs[0].target) in _TUPLES
            index = node.args[1]
            of_channels = isinstance(index, tuple) and len(index) == 2 and index[0] == whole
            channels = of_channels and isinstance(index[1], slice) and index[1].step in (None, 1)  # type: ignore[index]
            return "linear" if (of_tuple and isinstance(index, int)) or channels else None
        if name in ("div", "truediv") and inputs and node.args[0] not in read:
            return "nonlinear"  # one over the map
        arguments = [a for a in node.args if isinstance(a, (fx.Node, int, float))]
        depends = sum(n in read for n in inputs)
        return role_of_function(node.target, depends, len(arguments), _dim(node))

    def is_map_norm(self, node: fx.Node) -> bool:
        """True for norms whose statistics are those of the map itself, as modules or as functions."""
        return is_map_norm(self.module(node)) or function_name(node.target) in activations.MAP_NORM_FUNCTIONS

    def nonlinear_ends(self, sources: list[fx.Node]) -> list[fx.Node]:
        """Nodes through which all that follows from some maps passes, once a nonlinearity has been applied.

        The first is the end of the first nonlinearity (a module, a function, or several ops such as
        ``x * torch.sigmoid(x)``); the others follow it by ops that are affine at each place, so that a blur gives the
        same after each of them. Empty if something else reads the maps first.

        Args:
            sources: Values of convolutions that are added up; in the graph's order.
        """
        found: list[fx.Node] = []
        nonlinear = False
        for node, role, meets in self._followed(sources):
            if role == "nonlinear" and found:
                break
            nonlinear = nonlinear or role == "nonlinear"
            if meets and nonlinear:
                found.append(node)
        return found

    def _followed(self, sources: list[fx.Node]) -> Iterator[tuple[fx.Node, Role | None, bool]]:
        """Each node that keeps the places of some maps, and whether all that was read before passes through it."""
        conv = self.module(sources[0])
        ndim = len(conv.kernel_size) if isinstance(conv, _ConvNd) else self.ndim_before(sources[0]) or 2
        members: set[fx.Node] = set()
        last_use = -1
        for node in self._nodes[self._order[sources[0]] :]:
            role: Role | None = None
            if node not in sources:
                if members.isdisjoint(node.all_input_nodes):
                    continue
                role = self._role(node, members, ndim)
                if role is None:
                    return
            members.add(node)
            meets = members.issuperset(sources) and last_use <= self._order[node]
            yield node, role, meets and function_name(node.target) not in _TUPLES
            last_use = max([last_use, *(self._order[user] for user in node.users)])

    def first_unfollowed(self, node: fx.Node) -> fx.Node | None:
        """The first op that reads a map, through ops that keep its places, and does not keep them itself."""
        members = [member for member, *_ in self._followed([node])]
        readers = {user for member in members for user in member.users} - set(members)
        return min(readers, key=self._order.__getitem__, default=None)

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

    def changes_channels(self, sources: list[fx.Node], end: fx.Node) -> bool:
        """True if the number of channels changes on the way to the end of a nonlinearity."""
        for node, *_ in self._followed(sources):
            if isinstance(self.module(node), nn.GLU) or function_name(node.target) in _CHANNELS:
                return True
            if node is end:
                break
        return False

    def linear_ends(self, sources: list[fx.Node]) -> list[fx.Node]:
        """Nodes through which all that follows from some maps passes, before any nonlinearity; the last one first."""
        found = []
        for node, role, meets in self._followed(sources):
            if role == "nonlinear":
                break
            if meets and node not in sources:
                found.append(node)
        return found[::-1]

    def modules_taking(self, node: fx.Node) -> Iterator[str]:
        """Modules around a node that are given what it reads, and give that to nothing else; outermost first."""
        (source, *_) = node.all_input_nodes
        for path in self._tracer.takes[source]:
            readers = [user for user in source.users if f"{self.owner(user)}.".startswith(f"{path}.")]
            if readers == [node] and self.called_once(path) and not runs_its_children(self._modules[path]):
                yield path

    def modules_returning(self, node: fx.Node) -> Iterator[str]:
        """Modules called once that hand on the value of ``node`` and do not use it themselves, innermost first.

        Containers, and modules that run their own children in turn, are left out: they would call a module added to
        them as one of their own.
        """
        for path in self._tracer.returns[node]:
            inside = any(f"{self.owner(user)}.".startswith(f"{path}.") for user in node.users)
            if self.called_once(path) and not inside and not runs_its_children(self._modules[path]):
                yield path


def runs_its_children(module: nn.Module) -> bool:
    """True if a module's forward goes over its children, whatever they are."""
    if isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
        return True
    names: set[str] = set()
    codes = [getattr(inspect.unwrap(type(module).forward), "__code__", None)]
    for code in codes:  # grows: comprehensions are code objects of their own
        if code is not None:
            names |= set(code.co_names)
            codes += [const for const in code.co_consts if inspect.iscode(const)]
    return not names.isdisjoint(("children", "named_children", "_modules", "modules", "named_modules"))


def _all_names(model: nn.Module) -> dict[str, list[str]]:
    """First name of each module -> all its names."""
    first: dict[int, str] = {}
    names: dict[str, list[str]] = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        names[first.setdefault(id(module), name)].append(name)
    return names


def _dim(node: fx.Node) -> Any:
    """The argument ``dim`` of a function that has one."""
    place = {"chunk": 2, "split": 2, "tensor_split": 2, "cat": 1, "concat": 1, "glu": 1, "max": 1, "min": 1}
    name = function_name(node.target)
    given = node.args[place[name]] if name in place and len(node.args) > place[name] else node.kwargs.get("dim")
    default = {"glu": -1, "chunk": 0, "split": 0, "tensor_split": 0, "cat": 0, "concat": 0}.get(name)
    return default if given is None else None if isinstance(given, fx.Node) else given


def _attends(names: set[str]) -> bool:
    """True if some functions are those of attention."""
    products = {"matmul", "bmm", "einsum", "baddbmm", "__matmul__"}
    return "scaled_dot_product_attention" in names or ("softmax" in names and not products.isdisjoint(names))
