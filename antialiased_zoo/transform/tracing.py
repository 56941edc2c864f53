"""Symbolic tracing without global patches: it runs on stand-ins, so other threads can use the model meanwhile.

`torch.fx.Tracer.trace` patches ``nn.Module.__call__`` for the whole process while it runs. Here each
module has a stand-in: an object of the same class that shares its tensors, with only its call
replaced. Code that checks a module's class sees the real class, and no class is changed.
"""

from __future__ import annotations

import numbers
import operator
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, cast

import torch
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from ..layers import (
    COMPILED,
    Blurred,
    is_compiled_wrapper,
    patch_wrapped_functions,
    trace_patcher,
    wrap_functions,
)
from .activations import ACTIVATIONS, NORMS, registered_activations
from .answers import Answers
from .input_checks import passing_answer
from .op_table import registered_ops
from .randomness import DrawnLater
from .side_effects import PutBack, replacements
from .signatures import arguments, forward_of
from .stand_ins import Replaced, StandIns
from .surroundings import surroundings
from .value_classes import split_count, value_class

# Modules that the plan looks for or knows, so they need not be traced into.
_LEAVES = (Blurred, _ConvNd, _MaxPoolNd, _AvgPoolNd, *NORMS, *ACTIVATIONS)
_KNOWN_FORWARDS = frozenset(vars(cls).get("forward") for cls in ACTIVATIONS)
# Wrappers that call the module they hold, and the name of the attribute that holds it.
_WRAPPERS: dict[type[nn.Module], str] = {
    nn.DataParallel: "module",
    nn.parallel.DistributedDataParallel: "module",
}


def _wrapped(module: nn.Module) -> str | None:
    """Name of the attribute with the module that a wrapper calls; None for other modules."""
    if is_compiled_wrapper(module):
        return COMPILED
    return next((name for cls, name in _WRAPPERS.items() if isinstance(module, cls)), None)


def _whole_functions() -> tuple[Callable[..., Any], ...]:
    """Strided torchvision functions that cannot be traced into."""
    loaded = sys.modules.get("torchvision.ops.deform_conv")
    return (loaded.deform_conv2d,) if loaded is not None else ()


# Functions marked with `torch.fx.wrap` are replaced in their modules' namespaces during a trace, so
# only one trace may run at a time. The wrappers pass ordinary tensors on to the functions, so other
# threads are not affected.
_ONE_TRACE = threading.Lock()


class _Parts(fx.Proxy):
    """The parts of a split, if their number is known."""

    def __len__(self) -> int:
        return cast(int, split_count(self.node))

    def __iter__(self) -> Iterator[fx.Proxy]:
        whole: Any = self
        return iter([whole[i] for i in range(len(self))])


class Tracer(fx.Tracer):
    """Also records how often each module is called, what it takes and returns, and which module runs each op.

    Args:
        opaque: Classes of modules that are not traced into.
        watches: Whether to record what surrounds each op, which takes a quarter of the time.
    """

    # No required arguments: a loaded GraphModule creates its tracer without any.
    def __init__(self, opaque: frozenset[type[nn.Module]] = frozenset(), watches: bool = False) -> None:
        super().__init__(autowrap_functions=_whole_functions())
        self.opaque, self.watches = opaque, watches
        self.looked_into: dict[type[nn.Module], str] = {}  # one module of each class that is traced into
        self.iterated: set[nn.Module] = set()  # stand-ins whose children are iterated over
        self.loose: set[fx.Node] = set()  # run by modules that are not registered children
        self.is_loose = False  # while one of those runs
        self.calls: dict[str, int] = defaultdict(int)
        self.returns: dict[fx.Node, list[str]] = defaultdict(list)
        self.takes: dict[fx.Node, list[str]] = defaultdict(list)
        self.owner: dict[fx.Node, str] = {}
        self.surroundings: dict[fx.Node | None, dict[str, object]] = {None: surroundings()}  # None: of the trace itself
        self.failure: tuple[Exception | None, str] = (None, "")  # an error, and the innermost module it came from
        self.flags: set[str] = set()  # optional arguments that are given, and asked whether they are true
        self.undecided: tuple[Exception, str] | None = None  # the same for a condition that depends on values
        self._wrapped: set[int] = set()  # ids of namespaces
        self._parameter_names: dict[nn.Parameter, str] = {}
        self._parameters: dict[nn.Parameter, fx.Proxy] = {}
        self.hooks_of: dict[nn.Module, tuple[list[Any], list[Any]]] = {}  # of stand-ins; not run while tracing
        self.hooked: dict[fx.Node, tuple[str, list[Any]]] = {}  # nodes that stand for hooks: whose, and the hooks
        self._inside = [""]

    def trace_model(
        self,
        model: nn.Module,
        training: bool | None,
        after: Mapping[int, Any],
        given: Collection[str] = (),
        off: Collection[str] = (),
        fixed: bool = False,
        part: bool = False,
    ) -> fx.Graph:
        """Trace a model, which is neither run nor changed.

        Args:
            model: The model.
            training: The mode to trace in; None for each module's own.
            given: Names of optional arguments that are given; the others keep their defaults of None, True or False.
            off: Names of optional arguments that are given as False.
            fixed: Whether all optional arguments keep their defaults, numbers too.
            part: Whether it is a part of a model, called with values that are not known to be tensors.
            after: The stride that each module will have, by the module's id; None for a module that
                will be replaced.
        """
        root = self.root = StandIns(self, training, after).of(model)
        self.submodule_paths = {module: name for name, module in root.named_modules()}
        self._parameter_names = {parameter: name for name, parameter in root.named_parameters()}
        self.graph = fx.Graph(tracer_cls=type(self))
        self.tensor_attrs = {
            value: f"{name}.{key}" if name else key
            for name, module in root.named_modules()
            for key, value in vars(module).items()
            if isinstance(value, (torch.Tensor, torch.ScriptObject))
        }
        forward = forward_of(model)
        args, kwargs = self._arguments(forward, given, off, fixed)
        with _ONE_TRACE, PutBack(model) as outside, trace_patcher() as self._patcher, DrawnLater(self):
            patch_wrapped_functions(self._patcher)
            self._prepare_answers(model, None if part else torch.Tensor)
            for name, answer in self._answers.of_torch.items():
                self._patcher.patch(vars(torch), name, answer)
            for namespace in outside.namespaces:
                self.wrap_names(namespace)
                for name, value in replacements(namespace):
                    self._patcher.patch(namespace, name, value)
            for namespace in (forward.__globals__, *(module.__dict__ for module in self._autowrap_search)):
                self.wrap_names(namespace)
            self.iterated.clear()
            result = forward(root, *args, **kwargs)
            if self.undecided is not None:  # the model's own code caught the error
                self.failure = self.undecided
                raise self.undecided[0]
            self.create_node("output", "output", (self.create_arg(result),), {})
        return self.graph

    def _prepare_answers(self, model: nn.Module, given: type | None) -> None:
        """Make what answers for functions that take no proxies."""

        def class_of(node: fx.Node) -> type | None:
            return value_class(node, lambda n: model.get_submodule(str(n.target)), self._attribute, given)

        self._answers = Answers(class_of)

    def _attribute(self, node: fx.Node) -> Any:
        return operator.attrgetter(str(node.target))(self.root)

    def _arguments(
        self, forward: Callable[..., Any], given: Collection[str], off: Collection[str], fixed: bool
    ) -> tuple[list[Any], dict[str, Any]]:
        """What the model's forward is called with: proxies, and the defaults of optional arguments."""
        args, kwargs = list[Any](), dict[str, Any]()
        for index, parameter in enumerate(arguments(forward)):
            default, name = parameter.default, parameter.name
            is_choice = default is None or isinstance(default, bool)
            if name in off:
                value: Any = False
            elif (
                index == 0
                or default is parameter.empty
                or not (is_choice or fixed)
                or (name in given and default is None)
            ):
                taken = () if default is parameter.empty else (default,)
                value = self.create_proxy("placeholder", name, taken, {}, type_expr=None)
            else:
                value = not default if name in given else default
            if parameter.kind is parameter.KEYWORD_ONLY:
                kwargs[name] = value
            else:
                args.append(value)  # of ``*args``, if there is nothing else, the first
        return args, kwargs

    def wrap_names(self, namespace: dict[str, Any]) -> None:
        """Let functions that code calls by its namespace's names take proxies: `Answers`, and those of ``math``."""
        if id(namespace) not in self._wrapped and not str(namespace.get("__name__")).startswith("torch."):
            for name, answer in self._answers.in_namespace(namespace):
                self._patcher.patch(namespace, name, answer)
        self._wrapped.add(id(namespace))
        wrap_functions(self._patcher, namespace, self._autowrap_function_ids)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """True for modules that are not traced into."""
        if type(m) in self.opaque or isinstance(m, (*registered_activations(), *registered_ops())):
            return True
        if isinstance(m, Replaced):
            return True
        if isinstance(m, ACTIVATIONS) and type(m).forward not in _KNOWN_FORWARDS:
            return False
        return isinstance(m, _LEAVES) or (super().is_leaf_module(m, module_qualified_name) and _wrapped(m) is None)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Record the call; wrappers that only distribute a batch over devices are traced through."""
        path = self.path_of_module(m)
        self.calls[path] += 1
        is_leaf = self.is_leaf_module(m, path)
        before, after = ([], []) if is_leaf else self.hooks_of[m]
        if not is_leaf:
            self.looked_into.setdefault(type(m), path)
        args, kwargs = self._read_by(before, path, (args, kwargs))
        if args and isinstance(args[0], fx.Proxy):
            self.takes[args[0].node].append(path)
        self._inside.append(path)
        wrapped = _wrapped(m)
        try:
            result = getattr(m, wrapped)(*args, **kwargs) if wrapped else super().call_module(m, forward, args, kwargs)
        except Exception as error:
            if error is not self.failure[0]:
                self.failure = (error, path)
            raise
        finally:  # the model's own code may catch the error and continue
            self._inside.pop()
        if isinstance(result, fx.Proxy):
            self.returns[result.node].append(path)
        return self._read_by(after, path, result)

    def _read_by(self, own: list[Any], path: str, value: Any) -> Any:
        """A value that hooks read and may replace: each proxy in it goes through a node that stands for them."""
        if not own:
            return value
        if isinstance(value, fx.Proxy):
            proxy = self.create_proxy("call_function", read_by_hooks, (value,), {})
            self.hooked[proxy.node] = (path, own)
            return proxy
        if type(value) in (list, tuple):
            return type(value)(self._read_by(own, path, item) for item in value)
        return {key: self._read_by(own, path, item) for key, item in value.items()} if type(value) is dict else value

    def to_bool(self, obj: fx.Proxy) -> bool:
        """The truth of a condition: what passes the check that asks for it; other conditions cannot be traced.

        An optional argument that is given is true, since a tensor cannot be asked.
        """
        if obj.node.op == "placeholder" and obj.node.args == (None,):
            self.flags.add(str(obj.node.target))
            return True
        frame = sys._getframe()
        while frame.f_back is not None and frame.f_globals.get("__name__") in (__name__, fx.proxy.__name__):
            frame = frame.f_back
        answer = passing_answer(frame)
        if answer is None:
            error = fx.proxy.TraceError("symbolically traced variables cannot be used as inputs to control flow")
            self.failure = self.undecided = (error, self._inside[-1])
            raise error
        return answer

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """The proxy of a node's value."""
        return super().proxy(node) if split_count(node) is None else _Parts(node, self)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Record the module whose forward runs the op."""
        node = super().create_node(*args, **kwargs)
        self.owner[node] = self._inside[-1]
        if self.watches and node.op.startswith("call"):
            self.surroundings[node] = surroundings()
        if self.is_loose:
            self.loose.add(node)
        return node

    def parameter(self, value: Any) -> Any:
        """The proxy of one of the model's parameters; other values stay."""
        if value is None or value not in self._parameter_names:
            return value
        if value not in self._parameters:
            self._parameters[value] = self.create_proxy("get_attr", self._parameter_names[value], (), {})
        return self._parameters[value]

    def create_arg(self, a: Any) -> Any:
        """Turn parameters of modules that are not registered children into constants, NumPy's numbers into Python's."""
        if not isinstance(a, nn.Parameter):
            is_numpy = isinstance(a, numbers.Number) and type(a).__module__ == "numpy"
            return super().create_arg(a.item() if is_numpy else a)
        if a in self._parameter_names:
            return self.create_node("get_attr", self._parameter_names[a], (), {})
        if a not in self.tensor_attrs:
            self.tensor_attrs[a] = f"_loose_parameter{len(self.tensor_attrs)}"
            vars(self.root)[self.tensor_attrs[a]] = a
        return self.create_node("get_attr", self.tensor_attrs[a], (), {})


def read_by_hooks(value: Any) -> Any:
    """Stands in a graph for a module's hooks, which are not run: they may keep what they are given, or replace it."""
    return value
