"""Keeps what a model's own code does outside the model from outlasting its trace: caches, counters, random numbers."""

from __future__ import annotations

import functools
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSequence, MutableSet
from types import FunctionType, ModuleType, TracebackType
from typing import Any, NoReturn
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import torch
from torch import fx, nn

from .reached_code import found_once, held_attribute, held_functions, reached_functions
from .trials import is_of_trial

_CONTAINERS = (dict, list, set, deque, WeakKeyDictionary, WeakValueDictionary, WeakSet)
_KINDS = (MutableMapping, MutableSequence, MutableSet)
# Code of these keeps nothing of a trace, and draws random numbers by torch alone.
_KNOWN = ("torch.", "torchvision.", "antialiased_zoo.", "builtins.")
_MOST_NESTED = 256  # values of a container that are looked into
_DEEPEST = 3


class PutBack:
    """A context that takes the values of traces and trials out of what the model's code keeps outside the model.

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
        of_classes = (_caches(names) for _, names in self._names)
        found = [*of_classes, *(found_once(("caches", id(s)), functools.partial(_caches, s)) for s in self.namespaces)]
        self._caches = [(cache, cache.cache_info().currsize) for caches in found for cache in caches]
        containers = _containers([*self._roots, *(names for _, names in self._names)])
        self._before = [(container, _copied(container)) for container in containers]
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


def replacements(namespace: dict[str, Any]) -> list[tuple[str, Any]]:
    """The global names that a trace must not call, each with a substitute for its value.

    A cache would keep the trace's values. A generator outside torch would be drawn from, and the
    code that then runs may depend on chance. In other threads a substitute does what the value does.
    """
    return found_once(id(namespace), lambda: [*_replacements(namespace)])


def _replacements(namespace: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in [*namespace.items()]:
        if is_cache(value):
            yield name, _Calls(value, value.__wrapped__)
        elif (other := stand_in(value)) is not value:
            yield name, other


def stand_in(value: Any) -> Any:
    """The substitute, in a trace, for a value that draws random numbers outside torch; other values stay."""
    if isinstance(value, ModuleType):
        return _Draws(value) if value.__name__ in ("random", "numpy", "numpy.random") else value
    if _is_generator(value):
        return _Draws(value)
    return _Calls(value, _refuse) if _is_generator(held_attribute(value, "__self__")) else value


class _Calls:
    """Stands for a function, and calls another one in the thread that made it."""

    def __init__(self, function: Callable[..., Any], instead: Callable[..., Any]) -> None:
        self._function, self._instead, self._thread = function, instead, threading.get_ident()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return (self._instead if threading.get_ident() == self._thread else self._function)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)


class _Draws:
    """Stands for a generator of random numbers or a module with one, and refuses to draw in the thread that made it."""

    def __init__(self, value: Any) -> None:
        self._value, self._thread = value, threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._value, name)
        return stand_in(value) if threading.get_ident() == self._thread else value


def _is_generator(value: Any) -> bool:
    """True for a generator of random numbers of Python's or NumPy's."""
    cls = type(value)
    return issubclass(cls, random.Random) or (
        cls.__name__ in ("Generator", "RandomState") and cls.__module__.startswith("numpy.")
    )


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("draws random numbers by Python or NumPy, so what it runs may depend on chance")


def _is_known(cls: type) -> bool:
    return f"{cls.__module__}.".startswith(_KNOWN)


def _is_plain_object(value: Any) -> bool:
    """True for an object of somebody's own class, which may keep values."""
    cls = type(value)
    if cls.__module__ in ("builtins", "collections") or _is_known(cls):
        return False
    if isinstance(value, (nn.Module, torch.Tensor, ModuleType, type)):
        return False
    return held_attribute(value, "__dict__") is not None


def _kept_by(function: FunctionType) -> dict[str, Any]:
    """What a function keeps between its calls: attributes, defaults and the variables of its closure."""
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
        level = [found for value in inner if (found := _container_in(value)) is not None]


def _container_in(value: Any) -> Any:
    """The value if it is a container; the attributes of a container of another class; else None.

    A container of another class is not asked for its items: it may read them from a file.
    """
    if isinstance(value, _CONTAINERS):
        return value
    if isinstance(value, (str, int, float, type, ModuleType, FunctionType, nn.Module, torch.Tensor)):
        return None
    return vars(value) if isinstance(value, _KINDS) and held_attribute(value, "__dict__") is not None else None


def _items(container: Any) -> list[tuple[Any, Any]]:
    """The items of a mapping; a class derived from `dict` may make a new value each time it is asked for one."""
    return list(dict.items(container) if isinstance(container, dict) else container.items())


def _values(container: Any) -> list[Any]:
    return [value for _, value in _items(container)] if isinstance(container, MutableMapping) else list(container)


def _copied(container: Any) -> Any:
    return dict(_items(container)) if isinstance(container, MutableMapping) else list(container)


def _take_out(container: Any, before: Any) -> None:
    """Take the values of a trace out of a container; what they replaced comes back."""
    if not isinstance(container, MutableMapping):
        if any(map(_is_of_trace, container)):
            others = [value for value in container if not _is_of_trace(value) and all(value is not b for b in before)]
            container.clear()
            for value in (*before, *others):  # other threads may have added theirs meanwhile
                (container.add if isinstance(container, MutableSet) else container.append)(value)
        return
    for key, value in _items(container):
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
    """True for a proxy, for a tensor of a trial, and for what holds one."""
    if isinstance(value, (fx.Proxy, fx.Node)) or is_of_trial(value) or depth == _DEEPEST:
        return depth < _DEEPEST
    if isinstance(value, (*_CONTAINERS, tuple)):
        held = _values(value) if len(value) <= _MOST_NESTED else []
    else:
        held = list(vars(value).values()) if _is_plain_object(value) else []
    return any(_is_of_trace(item, depth + 1) for item in held)


def _caches(names: dict[str, Any]) -> list[Any]:
    """The caches of `functools.lru_cache` among a class's names."""
    return [found for value in names.values() if is_cache(found := held_attribute(value, "__func__") or value)]


def is_cache(value: Any) -> bool:
    """True for what `functools.lru_cache` returns."""
    if not callable(value) or isinstance(value, (fx.Proxy, type)):
        return False
    return all(held_attribute(value, name) is not None for name in ("cache_clear", "__wrapped__"))
