"""A traced model: its `torch.fx` graph, and which module calls, takes and returns what."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..layers import is_operator
from .own_code import can_fuse, hooks, may_run_its_children, reads_mode
from .reached_code import own_classes
from .signatures import choices, has_numbers
from .tracing import Tracer, read_by_hooks

# Libraries whose networks read no module's class or stride while they run.
_KNOWN_LIBRARIES = ("torch.", "torchvision.", "antialiased_zoo.")
# Modules whose functions contain no strided op that the graph does not show.
_READABLE = ("torch.", "torchvision.ops", "_operator", "builtins", "math")


_MOST_CHOICES = 4  # optional arguments that are given one by one; the others are given at once


class UntraceableError(Exception):
    """`torch.fx` cannot follow the model's own forward: its control flow depends on values."""


class TracedModel:
    """A model's graph, and the calls in it.

    A submodule that cannot be traced stays one node, and is listed in ``opaque`` with the reason.
    Tensors that the model computes from its buffers alone are in ``constants``, by the names that
    the graph's nodes use.

    Args:
        model: The network; it is not run and may be on the meta device.
        training: The mode to trace in; by default each module's own.
        hidden: Ids of modules that code which cannot be traced may call too.
        after: The stride that each module will have, by the module's id; None for a module that
            will be replaced.
        given: Names of optional arguments that are given; the others keep their defaults.
        off: Names of those that are given as False.
        part: Whether it is a part of a model, called with values that are not known to be tensors.
        watches: Whether to record what surrounds each op.

    Raises:
        UntraceableError: If the model's own forward cannot be traced.
    """

    def __init__(
        self,
        model: nn.Module,
        training: bool | None = None,
        hidden: frozenset[int] = frozenset(),
        after: Mapping[int, Any] = MappingProxyType({}),
        given: tuple[str, ...] = (),
        off: tuple[str, ...] = (),
        part: bool = False,
        watches: bool = False,
    ) -> None:
        self.model = model
        self._reading: dict[str, Any] = {"training": training, "given": given, "off": off, "part": part}
        self._modules = dict(model.named_modules())
        self.names = _all_names(model)
        self.opaque: dict[str, str] = {}
        classes: frozenset[type[nn.Module]] = frozenset()
        fixed = False  # optional numbers are arguments of the graph first
        while True:
            self._tracer = tracer = Tracer(classes, watches)
            try:
                self.graph = tracer.trace_model(model, training, after, given, off, fixed, part)
                break
            except Exception as error:  # a model's code may raise anything when given proxies
                failed, where = tracer.failure
                path = where if failed is error else ""
                module = self._modules[path]
                if not path and not fixed and has_numbers(model):
                    fixed = True
                    continue
                if not path or type(module) in classes:
                    raise UntraceableError(_said(error)) from error
                classes |= {type(module)}
                self.opaque |= {p: _said(error) for p, m in self._modules.items() if p and type(m) is type(module)}
        # The modules of these nodes return a value that is read under another name, so a blur can
        # only go before its readers.
        self.rebound = _rebind_in_place(self.graph, self.module)
        paths = tracer.submodule_paths or {}
        iterated = {paths[module] for module in tracer.iterated if module in paths}
        self._iterated = iterated | {path for path in self.opaque if may_run_its_children(self._modules[path])}
        self._outside = hidden
        self._hidden = hidden | {
            id(inner)
            for path in self.opaque
            for inner in self._modules[path].modules()
            if inner is not self._modules[path]
        }
        new = ((name, value) for name, value in vars(tracer.root).items() if name not in vars(model))
        self.constants = {name: value for name, value in new if isinstance(value, Tensor)}
        self._nodes = list(self.graph.nodes)
        self._order = {node: index for index, node in enumerate(self._nodes)}

    def described(self) -> list[str]:
        """The ops with their arguments as text, for comparing graphs."""
        return [f"{node.op} {node.target} {node.args} {node.kwargs}" for node in self._nodes]

    def structure(self) -> list[str]:
        """`described`, without what does not change where data flows: the inputs, and flags such as dropout's."""
        texts = (text for text in self.described() if not text.startswith("placeholder"))
        return [re.sub("True|False", "_", text) for text in texts]

    def calls(self, path: str) -> bool:
        """True if the traced code calls the module at ``path``, or other code may."""
        module = self._modules.get(path)
        return self._tracer.calls[path] > 0 or (module is not None and id(module) in self._hidden)

    def stays(self, after: Mapping[int, Any]) -> bool:
        """True if the model runs the same ops after the changes that ``after`` describes."""
        try:
            return TracedModel(self.model, after=after, **self._reading).described() == self.described()
        except UntraceableError:
            return False

    def other_readings(self) -> Iterator[dict[str, Any]]:
        """Yield the other ways to read the model: the other mode, if code reads it, and optional arguments given."""
        modes = self._other_modes()
        yield from ({**self._reading, "training": mode} for mode in modes)
        names = [name for name in choices(self.model) if name not in self.given]
        for given in [*((name,) for name in names[:_MOST_CHOICES]), tuple(names[_MOST_CHOICES:])]:
            if given:
                yield {**self._reading, "given": (*self.given, *given)}
        if names:
            same = [self._reading["training"]] if len(names) > 1 else []
            for mode in (*same, *modes):
                yield {**self._reading, "training": mode, "given": (*self.given, *names)}

    def with_flags_off(self) -> list[dict[str, Any]]:
        """This reading again, with what its code took for flags given as False."""
        off = {*self._reading["off"], *self._tracer.flags}
        return [{**self._reading, "off": tuple(sorted(off))}] if self._tracer.flags else []

    def _other_modes(self) -> list[bool]:
        """The modes that not every module is in; none if the code does not read them."""
        read = map(self._modules.__getitem__, self._tracer.looked_into.values())
        if not any(map(reads_mode, (self.model, *read))):
            return []
        current = {module.training for module in self._modules.values()}
        return [mode for mode in (False, True) if current != {mode}]

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the optional arguments that were given."""
        return tuple(self._reading["given"])

    @property
    def is_library_code(self) -> bool:
        """True if only code of known libraries runs, which reads no module's class or stride."""
        return all(
            "forward" not in vars(module)
            and not any(hooks(module))
            and all(f"{cls.__module__}.".startswith(_KNOWN_LIBRARIES) for cls in own_classes(module))
            for module in self._modules.values()
        )

    def unread(self) -> dict[str, list[str]]:
        """The modules that call code which cannot be traced (hooks, `torch.fx.wrap` functions), by the code's name."""
        found: dict[str, list[str]] = {}
        for path, own in self._tracer.hooked.values():
            for hook in own:
                found.setdefault(f"the hook {_name(hook)}", []).append(path)
        for node in self.graph.nodes:
            module = self.module(node)
            if isinstance(module, torch.jit.ScriptModule):
                found.setdefault("TorchScript", []).append(str(node.target))
            for hook in hooks(module):
                found.setdefault(f"the hook {_name(hook)}", []).append(str(node.target))
            if (
                node.op != "call_function"
                or node.target is read_by_hooks
                or isinstance(node.target, type)
                or is_operator(node.target)
            ):
                continue
            if not f"{node.target.__module__}.".startswith(_READABLE):
                found.setdefault(node.target.__name__, []).append(self.owner(node) or "the model")
        return found

    @property
    def hooks_of_parts(self) -> list[Any]:
        """The hooks of modules that the trace looked into; it did not run them."""
        return list({id(hook): hook for _, own in self._tracer.hooked.values() for hook in own}.values())

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that ``node`` calls, or None."""
        return self._modules[str(node.target)] if node.op == "call_module" else None

    def is_opaque(self, node: fx.Node) -> bool:
        """True if the node is a module that could not be traced."""
        return node.op == "call_module" and str(node.target) in self.opaque

    def is_loose(self, node: fx.Node) -> bool:
        """True if the node is run by a module that is not a registered child (in a plain list, for example)."""
        return node in self._tracer.loose

    @property
    def surroundings(self) -> Mapping[fx.Node | None, Mapping[str, object]]:
        """What was active when each op ran, such as `torch.no_grad`, if watched; for None, what was active before."""
        return self._tracer.surroundings

    def owner(self, node: fx.Node) -> str:
        """Qualified name of the module whose forward runs the node; "" for the model itself."""
        return self._tracer.owner[node]

    def called_once(self, path: str) -> bool:
        """True if the model calls the module at ``path`` exactly once, and untraced code cannot call it."""
        return self._tracer.calls[path] == 1 and id(self._modules[path]) not in self._hidden

    def is_hidden(self, path: str) -> bool:
        """True if code that cannot be traced may call the module at ``path`` too."""
        return id(self._modules[path]) in self._hidden

    def is_called_by_owner(self, path: str) -> bool:
        """True if only the code of the part around it, which was not traced, can call the module at ``path``."""
        shared = id(self._modules[path]) in self._outside or len(self.names[path]) > 1
        return not shared and not self._tracer.calls[path]

    @property
    def called(self) -> frozenset[int]:
        """Ids of the modules that the traced code calls."""
        return frozenset(id(self._modules[path]) for path, count in self._tracer.calls.items() if count)

    def called_above(self, *paths: str) -> str | None:
        """Name of the nearest common parent of some modules that is called and is not fused by its library.

        "" is the model itself; None if one of the modules is the model.
        """
        above = paths[0].rpartition(".")[0] if all(paths) else None
        while above and not (
            self._tracer.calls[above]
            and all(path.startswith(f"{above}.") for path in paths)
            and not can_fuse(self._modules[above])
        ):
            above = above.rpartition(".")[0]
        return above

    def modules_taking(self, node: fx.Node) -> Iterator[str]:
        """Names of the modules around a node that pass their input to that node alone, outermost first."""
        (source, *_) = node.all_input_nodes
        for path in self._tracer.takes[source]:
            readers = [user for user in source.users if f"{self.owner(user)}.".startswith(f"{path}.")]
            if readers == [node] and self.called_once(path) and path not in self._iterated:
                yield path

    def modules_returning(self, node: fx.Node) -> Iterator[str]:
        """Names of the modules, called once, that return the value of ``node`` without using it, innermost first.

        Modules that iterate over their children are left out: they would run an added blur as one
        of them.
        """
        for path in self._tracer.returns[node]:
            inside = any(f"{self.owner(user)}.".startswith(f"{path}.") for user in node.users)
            if self.called_once(path) and not inside and path not in self._iterated:
                yield path


def _rebind_in_place(graph: fx.Graph, module: Callable[[fx.Node], nn.Module | None]) -> set[fx.Node]:
    """Make readers of a value that an in-place op has changed read that op's result, which is the same tensor.

    Returns:
        The in-place ops with such readers.
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


def _said(error: Exception) -> str:
    """An error's class and first sentence; torch's go on with where to read more."""
    (first, *_) = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {first.partition('. ')[0]}"


def _name(hook: Any) -> str:
    return str(getattr(hook, "__name__", type(hook).__name__))


def _all_names(model: nn.Module) -> dict[str, list[str]]:
    """All names of each module, by its first name."""
    first: dict[int, str] = {}
    names: dict[str, list[str]] = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        names[first.setdefault(id(module), name)].append(name)
    return names
