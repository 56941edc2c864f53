"""What a model computes, as `torch.fx` sees it: the graph, and who calls which module and returns what."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.modules import activation as activations
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from ..layers import Blurred

_NOT_POINTWISE = (activations.MultiheadAttention, activations.Softmax, activations.Softmax2d, activations.LogSoftmax)
ACTIVATIONS = tuple(
    cls
    for name in activations.__all__
    if isinstance(cls := getattr(activations, name), type) and cls not in _NOT_POINTWISE
)
_ACTIVATION_FUNCTIONS = frozenset(
    [
        *("celu", "elu", "gelu", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu"),
        *("logsigmoid", "mish", "prelu", "relu", "relu6", "rrelu", "selu", "sigmoid", "silu", "softplus"),
        *("softsign", "tanh"),
    ]
)
_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
# These take their statistics over the map at hand, so they are not the same on a dense map and on its subsampled one.
_MAP_NORMS = (_InstanceNorm, nn.GroupNorm)
# Where the functions of a graph come from that hide no strided op.
_READABLE = ("torch.", "torchvision.ops", "_operator", "builtins", "math")
# Library modules that hold what the plan looks for, so that their inside need not be traced.
_LEAVES = (Blurred, _ConvNd, _MaxPoolNd, _AvgPoolNd, *_NORMS, *ACTIVATIONS)


class _Tracer(fx.Tracer):
    """Also notes how often each module is called, what it returns, and inside which module each op runs."""

    # A stored GraphModule makes its tracer anew, without arguments.
    def __init__(self, opaque: frozenset[type[nn.Module]] = frozenset()) -> None:
        super().__init__()
        self.opaque = opaque
        self.calls: dict[str, int] = defaultdict(int)
        self.returns: dict[fx.Node, list[str]] = defaultdict(list)
        self.owner: dict[fx.Node, str] = {}
        self.failure: tuple[Exception | None, str] = (None, "")  # an error, and the innermost module it came from
        self._inside = [""]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or isinstance(m, _LEAVES) or type(m) in self.opaque

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        path = self.path_of_module(m)
        self.calls[path] += 1
        self._inside.append(path)
        try:
            result = super().call_module(m, forward, args, kwargs)
        except Exception as error:
            if error is not self.failure[0]:
                self.failure = (error, path)
            raise
        finally:  # also where the model's own code catches the error and goes on
            self._inside.pop()
        if isinstance(result, fx.Proxy):
            self.returns[result.node].append(path)
        return result

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        self.owner[node] = self._inside[-1]
        return node


class UntraceableError(Exception):
    """`torch.fx` cannot follow the model's own forward: its control flow depends on values."""


class Dataflow:
    """The traced graph of a model, with the few questions that the plan asks of it.

    A submodule that cannot be traced is left whole, as one node, and named in ``opaque`` with the reason. Tensors that
    the model makes of its buffers alone are the graph's ``constants``, by the names that its nodes give them.

    Args:
        model: The network; it is not run and may be on the meta device.

    Raises:
        UntraceableError: If the model's own forward cannot be traced.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._modules = dict(model.named_modules())
        self.opaque: dict[str, str] = {}
        classes: frozenset[type[nn.Module]] = frozenset()
        while True:
            tracer = _Tracer(classes)
            try:
                with _attributes_kept(self._modules.values()):
                    known = set(vars(model))
                    self.graph = tracer.trace(model)
                    new = ((name, value) for name, value in vars(model).items() if name not in known)
                    self.constants = {name: value for name, value in new if isinstance(value, Tensor)}
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
        self._tracer = tracer

    def unread(self) -> dict[str, list[str]]:
        """Functions that the model keeps from being traced (`torch.fx.wrap`), and the modules that call each."""
        found: dict[str, list[str]] = {}
        for node in self.graph.nodes:
            if node.op != "call_function" or isinstance(node.target, type):
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
        """True if a module or a function of the model calls itself attention."""
        names = [type(module).__name__ for module in self._modules.values()]
        names += [getattr(node.target, "__name__", "") for node in self.graph.nodes]
        return any("attention" in name.lower() for name in names)

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

    def is_fixed(self, node: fx.Node) -> bool:
        """True if the value comes from buffers and constants alone: from no input and no parameter."""
        if node.op == "get_attr":
            if node.target in self.constants:
                return True
            return not isinstance(operator.attrgetter(str(node.target))(self._model), nn.Parameter)
        computed = node.op in ("call_function", "call_method")
        return computed and all(map(self.is_fixed, node.all_input_nodes))

    def is_linear(self, node: fx.Node) -> bool:
        """True for norms, dropout and identities, which keep a map's places and are linear in evaluation."""
        module = self.module(node)
        linear = isinstance(module, (*_NORMS, _DropoutNd, nn.Identity)) and not self.is_map_norm(node)
        return linear and not _holds_activation(module)

    def is_map_norm(self, node: fx.Node) -> bool:
        """True for norms whose statistics are those of the map itself: group and instance norms."""
        return isinstance(self.module(node), _MAP_NORMS)

    def is_activation(self, node: fx.Node) -> bool:
        """True for a pointwise nonlinearity, alone or at the end of a norm's own module."""
        if node.op == "call_module":
            module = self.module(node)
            return isinstance(module, ACTIVATIONS) or (
                isinstance(module, _NORMS) and not self.is_map_norm(node) and _holds_activation(module)
            )
        name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
        return str(name).rstrip("_") in _ACTIVATION_FUNCTIONS

    def modules_returning(self, node: fx.Node) -> Iterator[str]:
        """Modules called once that hand on the value of ``node`` and do not use it themselves, innermost first.

        Containers are left out: a module added to one would be called as one of its members.
        """
        for path in self._tracer.returns[node]:
            inside = any(f"{self.owner(user)}.".startswith(f"{path}.") for user in node.users)
            container = isinstance(self._modules[path], (nn.Sequential, nn.ModuleList, nn.ModuleDict))
            if self.called_once(path) and not inside and not container:
                yield path


@contextmanager
def _attributes_kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Undo what tracing assigns to modules: it runs their own code, which may keep a proxy for the next call."""
    before = [(module, dict(vars(module))) for module in modules]
    try:
        yield
    finally:
        for module, attributes in before:
            vars(module).clear()
            vars(module).update(attributes)


def _holds_activation(module: nn.Module | None) -> bool:
    return module is not None and any(isinstance(child, ACTIVATIONS) for child in module.modules())
