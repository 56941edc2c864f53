"""Keeps what a model's own code does outside the model from outlasting its trace: caches, counters, random numbers."""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSequence, MutableSet
from types import FunctionType, ModuleType, TracebackType
from typing import Any, NoReturn

import torch
from torch import fx, nn

from .reached_code import held_functions, reached_functions

_CONTAINERS = (MutableMapping, MutableSequence, MutableSet, deque)
# Code of these keeps nothing of a trace and draws no numbers that are no tensors.
_KNOWN = ("torch.", "torchvision.", "antialiased_zoo.", "builtins.")
_MOST_NESTED = 256  # values of a container that are looked into
_DEEPEST = 3
_PYTHONS: Any = getattr(random.random, "__self__", None)  # Python's generator of the process


class PutBack:
    """A context that takes the values of a trace out of what the model's code keeps outside the model.

    Other values stay as they are: another thread may have put them there meanwhile.

    Args:
        model: The model that is traced inside the context.

    Attributes:
        namespaces: The global names of the functions that the model's forward can reach, outside torch.
    """

    def __init__(self, model: nn.Module) -> None:
        own = [module for module in model.modules() if not _is_known(type(module))]
        one_of_each = {(type(module), *held_functions(module)): module for module in own}
        functions = {function: None for module in one_of_each.values() for function in reached_functions(module)}
        spaces = {id(space := function.__globals__): space for function in functions}
        self.namespaces = [space for space in spaces.values() if not f"{space.get('__name__')}.".startswith(_KNOWN)]
        self._classes = {
            cls for found in {type(module) for module in own} for cls in found.__mro__ if not _is_known(cls)
        }
        held = (value for module in model.modules() for value in vars(module).values() if _is_plain_object(value))
        self._roots = [*self.namespaces, *map(_kept_by, functions), *map(vars, held)]

    def __enter__(self) -> PutBack:
        self._names = [(cls, dict(vars(cls))) for cls in self._classes]
        self._caches = [(cache, cache.cache_info().currsize) for _, names in self._names for cache in _caches(names)]
        found = _containers([*self._roots, *(names for _, names in self._names)])
        self._before = [(container, _copied(container)) for container in found]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for container, before in self._before:
            _take_out(container, before)
        for cls, names in self._names:
            _take_out_of_class(cls, names)
        for cache, size in self._caches:
            if cache.cache_info().currsize != size:  # what it holds cannot be seen
                cache.cache_clear()


def replacements(namespace: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the global names that must not be called in a trace, each with what stands for its value.

    Caches of results would keep the trace's values. Generators of numbers that are no tensors would
    be drawn from, and what the code then runs may depend on chance.
    """
    for name, value in [*namespace.items()]:
        if is_cache(value):
            yield name, _Calls(value.__wrapped__)
        elif isinstance(value, ModuleType) and value.__name__ in ("random", "numpy", "numpy.random"):
            yield name, _Module(value)
        elif _draws(value):
            yield name, _Calls(_refuse)


def stand_in(value: Any) -> Any:
    """What stands in a trace for an attribute's value that draws numbers which are no tensors."""
    if isinstance(value, random.Random):
        return copy.copy(value)
    return _refuse if _draws(value) else value


class _Calls:
    """A function under a name that a trace replaces."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)


class _Module:
    """A module whose process-wide generator is not drawn from."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        if isinstance(value, ModuleType):
            return _Module(value)
        return _refuse if _draws(value) else value


def _draws(value: Any) -> bool:
    """True for a method of the process's generators of numbers that are no tensors."""
    owner = getattr(value, "__self__", None) if callable(value) else None
    return owner is not None and (owner is _PYTHONS or type(owner).__name__ == "RandomState")


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("draws random numbers that are no tensors, so what it runs may depend on chance")


def _is_known(cls: type) -> bool:
    return f"{cls.__module__}.".startswith(_KNOWN)


def _is_plain_object(value: Any) -> bool:
    """True for an object of somebody's own class, which may keep values."""
    cls = type(value)
    if cls.__module__ in ("builtins", "collections") or not hasattr(value, "__dict__") or _is_known(cls):
        return False
    return not isinstance(value, (nn.Module, torch.Tensor, ModuleType, type))


def _kept_by(function: FunctionType) -> dict[str, Any]:
    """What a function keeps between its calls, by any name."""
    cells = {f"cell {i}": _content(cell) for i, cell in enumerate(function.__closure__ or ())}
    defaults = {f"default {i}": value for i, value in enumerate(function.__defaults__ or ())}
    return {"own": vars(function), "keywords": function.__kwdefaults__, **defaults, **cells}


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _containers(roots: Iterable[Any]) -> Iterator[Any]:
    """The containers among some values and in them."""
    known: set[int] = set()
    level = list(roots)
    for depth in range(_DEEPEST):
        inner: list[Any] = []
        for container in level:
            if id(container) not in known:
                known.add(id(container))
                yield container
                if depth == 0 or len(container) <= _MOST_NESTED:
                    inner += _values(container)
        level = [value for value in inner if _is_container(value)]


def _is_container(value: Any) -> bool:
    return type(value) in (dict, list, set) or (
        not isinstance(value, (str, int, float, type, ModuleType, FunctionType, nn.Module, torch.Tensor))
        and isinstance(value, _CONTAINERS)
    )


def _values(container: Any) -> list[Any]:
    return list(container.values() if isinstance(container, MutableMapping) else container)


def _copied(container: Any) -> Any:
    return dict(container) if isinstance(container, MutableMapping) else list(container)


def _take_out(container: Any, before: Any) -> None:
    """Take the values of a trace out of a container; what they replaced comes back."""
    if not isinstance(container, MutableMapping):
        if any(map(_is_of_trace, container)):
            container.clear()
            for value in before:
                (container.add if isinstance(container, MutableSet) else container.append)(value)
        return
    for key, value in [*container.items()]:
        if key in before and before[key] is value:
            continue
        if _is_of_trace(value) and key in before:
            container[key] = before[key]
        elif _is_of_trace(value) or isinstance(key, fx.Proxy):
            del container[key]


def _take_out_of_class(cls: type, names: dict[str, Any]) -> None:
    for name, value in [*vars(cls).items()]:
        if names.get(name) is not value and _is_of_trace(value):
            if name in names:
                setattr(cls, name, names[name])
            else:
                delattr(cls, name)


def _is_of_trace(value: Any, depth: int = 0) -> bool:
    """True for a proxy, and for what holds one."""
    if isinstance(value, (fx.Proxy, fx.Node)) or depth == _DEEPEST:
        return depth < _DEEPEST
    if _is_container(value) or isinstance(value, tuple):
        held = _values(value) if len(value) <= _MOST_NESTED else []
    else:
        held = list(vars(value).values()) if _is_plain_object(value) else []
    return any(_is_of_trace(item, depth + 1) for item in held)


def _caches(names: dict[str, Any]) -> list[Any]:
    """The caches of `functools.lru_cache` among a class's names."""
    return [found for value in names.values() if is_cache(found := getattr(value, "__func__", value))]


def is_cache(value: Any) -> bool:
    """True for what `functools.lru_cache` returns."""
    return not isinstance(value, (fx.Proxy, type)) and hasattr(value, "cache_clear") and hasattr(value, "__wrapped__")
