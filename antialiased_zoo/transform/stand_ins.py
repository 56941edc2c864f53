"""Stand-ins: objects that take the places of a model's modules while it is traced, so that it stays as it is."""

from __future__ import annotations

import functools
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..layers import own_call, set_call
from .own_code import is_users
from .side_effects import stand_in

if TYPE_CHECKING:
    from .tracing import Tracer

_SCALARS = (bool, int, float, str, type(None), torch.Tensor, nn.Parameter)


class _Children(dict[str, Any]):
    """A module's children, which call ``note`` when they are iterated over."""

    def __init__(self, children: dict[str, Any], note: Callable[[], None]) -> None:
        super().__init__(children)
        self._note = note

    def __iter__(self) -> Iterator[str]:
        self._note()
        return super().__iter__()

    def keys(self) -> Any:
        self._note()
        return super().keys()

    def values(self) -> Any:
        self._note()
        return super().values()

    def items(self) -> Any:
        self._note()
        return super().items()


class _Parameters(dict[str, Any]):
    """A module's parameters; reading one gives its proxy in the graph."""

    def __init__(self, parameters: dict[str, Any], tracer: Tracer) -> None:
        super().__init__(parameters)
        self._tracer = tracer

    def __getitem__(self, name: str) -> Any:
        return self._tracer.parameter(super().__getitem__(name))


class Replaced(nn.Module):
    """Stands for the replacement of a pool: has neither the pool's class nor its attributes."""


class StandIns:
    """Makes one stand-in for each module of a model; assignments during tracing do not reach the model."""

    def __init__(self, tracer: Tracer, training: bool | None, after: Mapping[int, Any]) -> None:
        self._tracer = tracer
        self._after = after
        self._training = training
        self._made: dict[int, nn.Module] = {}
        self._registered: set[int] = set()

    def of(self, module: nn.Module) -> nn.Module:
        """The stand-in of a module."""
        self._registered = self._registered or set(map(id, module.modules()))  # the first is the model
        if id(module) in self._made:
            return self._made[id(module)]
        replaced = self._after.get(id(module), ()) is None
        if replaced or isinstance(module, torch.jit.ScriptModule):
            self._made[id(module)] = empty = Replaced() if replaced else nn.Module()
            set_call(empty, self._call(empty))
            return empty
        twin = object.__new__(type(module))
        self._made[id(module)] = twin
        vars(twin).update({name: self._remade(value) for name, value in vars(module).items()})
        self._tracer.hooks_of[twin] = _without_hooks(twin)
        vars(twin)["_modules"] = _Children(vars(twin)["_modules"], lambda: self._tracer.iterated.add(twin))
        vars(twin)["_parameters"] = _Parameters(vars(twin)["_parameters"], self._tracer)
        vars(twin)["named_modules"] = functools.partial(_named_modules, self._tracer, twin)
        if id(module) in self._registered:
            set_call(twin, self._call(twin))
        else:
            set_call(twin, self._call_loose(twin))
        if id(module) in self._after:
            vars(twin)["stride"] = self._after[id(module)]
        if self._training is not None and id(module) in self._registered:  # train() does not reach the others
            vars(twin)["training"] = self._training
        return twin

    def _remade(self, value: Any) -> Any:
        """An attribute's value, with containers copied and modules replaced by their stand-ins."""
        if type(value) in _SCALARS:  # the common case first
            return value
        if isinstance(value, nn.Module):
            return self.of(value)
        if type(value) in (list, set):
            return type(value)(map(self._remade, value))
        if type(value) is tuple:
            return tuple(map(self._remade, value))
        if isinstance(value, dict):
            return self._remade_dict(value)
        if isinstance(value, MethodType) and isinstance(value.__self__, nn.Module):
            return MethodType(value.__func__, self.of(value.__self__))
        return stand_in(value)

    def _remade_dict(self, value: dict[Any, Any]) -> dict[Any, Any]:
        # Not by the methods of a class of somebody's own: a frozen one refuses changes, and its copy may be itself.
        kind = next(cls for cls in type(value).__mro__ if cls in (OrderedDict, defaultdict, dict))
        copied: dict[Any, Any] = kind.__new__(type(value))
        if isinstance(value, defaultdict) and isinstance(copied, defaultdict):
            copied.default_factory = value.default_factory
        if type(value) is not kind:
            vars(copied).update(vars(value))
        for key, item in dict.items(value):
            kind.__setitem__(copied, key, self._remade(item))
        return copied

    def _call(self, twin: nn.Module) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._tracer.wrap_names(getattr(type(twin).forward, "__globals__", {}))
            return self._tracer.call_module(twin, _own_call(twin), args, kwargs)

        return call

    def _call_loose(self, twin: nn.Module) -> Callable[..., Any]:
        """The call of a module in a plain list: it has no path, so its functions become nodes of the graph."""

        def call(*args: Any, **kwargs: Any) -> Any:
            tracer = self._tracer
            tracer.wrap_names(getattr(type(twin).forward, "__globals__", {}))
            before, tracer.is_loose = tracer.is_loose, True
            try:
                return _own_call(twin)(*args, **kwargs)
            finally:
                tracer.is_loose = before

        return call


def _without_hooks(twin: nn.Module) -> tuple[list[Any], list[Any]]:
    """Take the user's hooks off a stand-in; returns those that run before and after its forward."""
    found: list[list[Any]] = []
    for held in (twin._forward_pre_hooks, twin._forward_hooks):
        own = {key: hook for key, hook in held.items() if is_users(hook)}
        for key in own:
            del held[key]
        found.append(list(own.values()))
    return found[0], found[1]


def _own_call(twin: nn.Module) -> Callable[..., Any]:
    """What a stand-in's call does; hooks for every module of the process are not run either."""
    return own_call(twin) if twin._forward_pre_hooks or twin._forward_hooks else twin.forward


def _named_modules(tracer: Tracer, twin: nn.Module, *args: Any, **kwargs: Any) -> Iterator[Any]:
    """A stand-in's `named_modules`, which does not count as iterating over its children to run them."""
    before = set(tracer.iterated)
    found = list(type(twin).named_modules(twin, *args, **kwargs))
    tracer.iterated = before
    return iter(found)
