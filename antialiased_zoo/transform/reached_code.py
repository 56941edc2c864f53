"""Which functions a module's forward can reach, judged by the names in its code, where the code cannot be traced."""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

from torch import nn

_CALLED = ("forward", "__call__")  # what runs a module
_LIBRARIES = frozenset(["torch", "torchvision", "numpy", *sys.stdlib_module_names])  # their modules are not looked into
_MOST_DECORATORS = 16  # around one function
_FOUND: ContextVar[dict[object, Any] | None] = ContextVar("_FOUND", default=None)
_Found = TypeVar("_Found")
_FUNCTIONS = (FunctionType, MethodType, type(functools.cache(len)))


def reached_functions(module: nn.Module) -> list[FunctionType]:
    """The functions that a module's forward can reach: its own methods and global functions, by their names.

    Torch's functions are left out. Code that only other methods call (to load weights, to set the
    module up) is not reached.
    """
    return _search(module) if held_functions(module) else found_once(type(module), lambda: _search(module))


@contextlib.contextmanager
def searching_once() -> Iterator[None]:
    """A context in which each class and each namespace is searched once; they may be changed afterwards."""
    token = _FOUND.set({} if _FOUND.get() is None else _FOUND.get())
    try:
        yield
    finally:
        _FOUND.reset(token)


def found_once(what: object, search: Callable[[], _Found]) -> _Found:
    """What a search returns; inside `searching_once`, what it returned the first time."""
    known = _FOUND.get()
    if known is None:
        return search()
    if what not in known:
        known[what] = search()
    found: _Found = known[what]
    return found


def _search(module: nn.Module) -> list[FunctionType]:
    methods = _methods(module)
    own = {function for values in methods.values() for value in values for function in _layers(value)}
    found: dict[FunctionType, bool] = {}  # True for those that may hold the module under any name
    todo: list[tuple[Any, bool]] = [(value, False) for name in _CALLED for value in methods.get(name, ())]
    for value, given in todo:  # grows
        for function in _layers(value):
            if str(function.__module__).startswith("torch.") or found.get(function, -1) >= given:
                continue
            found[function] = given
            codes = codes_of(function)
            name = codes[0].co_varnames[0] if function in own and codes[0].co_varnames else None
            passes = any(_passes(code, name) for code in codes) if name else given
            for code in codes:
                named = _named(code, methods, None if passes else name)
                todo += [(value, False) for name in named for value in methods[name]]
                todo += [(value, passes) for value in _global_values(function, code)]
    return list(found)


def own_classes(module: nn.Module) -> tuple[type, ...]:
    """A module's class and its bases, down to `nn.Module`."""
    return type(module).__mro__[: type(module).__mro__.index(nn.Module)]


def held_functions(module: nn.Module) -> list[Any]:
    """The functions, methods and caches of functions among a module's own attributes."""
    return [value for value in vars(module).values() if type(value) in _FUNCTIONS]


def held_attribute(value: Any, name: str) -> Any:
    """An attribute that a value or its class holds, or None.

    A ``__getattr__`` is not called: that of an optional package may import it, or raise any error if it is missing.
    """
    return getattr(value, name, None) if inspect.getattr_static(value, name, None) is not None else None


def hook_functions(hook: Any) -> list[FunctionType]:
    """The functions that a hook runs and those that they name; torch's are left out."""
    found = list(_layers(hook)) or list(_layers(vars(type(hook)).get("__call__")))
    for function in found:  # grows
        named = (value for code in codes_of(function) for value in _global_values(function, code))
        layers = (layer for value in named for layer in _layers(value))
        found += [layer for layer in layers if layer not in found and not str(layer.__module__).startswith("torch.")]
    return found


def codes_of(function: FunctionType) -> list[CodeType]:
    """The code objects of a function and of the functions and comprehensions in it."""
    codes = [function.__code__]
    for code in codes:
        codes += [const for const in code.co_consts if inspect.iscode(const)]
    return codes


@functools.lru_cache(maxsize=1024)
def steps_of(code: CodeType) -> tuple[dis.Instruction, ...]:
    """The instructions of a code object, which holds no values of a model."""
    return tuple(dis.get_instructions(code))


def is_self(step: dis.Instruction, name: str = "self") -> bool:
    """True if a step of a method's code loads the module last."""
    return _loaded(step)[-1:] == (name,)


def _global_values(function: FunctionType, code: CodeType) -> Iterator[Any]:
    """The values of the global names in a function's code, and what Python modules among them hold under its names."""
    for value in [function.__globals__.get(name) for name in code.co_names]:
        yield value
        if isinstance(value, ModuleType) and value.__name__.partition(".")[0] not in _LIBRARIES:
            yield from (vars(value).get(name) for name in code.co_names)


def _methods(module: nn.Module) -> dict[str, list[Any]]:
    """The attributes of a module and its classes by name: several values where classes override one another."""
    methods: dict[str, list[Any]] = {}
    for holder in (vars(module), *map(vars, own_classes(module))):
        for name, value in holder.items():
            methods.setdefault(name, []).append(value)
    return methods


def _named(code: CodeType, methods: Mapping[str, Any], own: str | None) -> list[str]:
    """The methods that code may call; ``own`` is its only name for the module, None if any name may be."""
    names = set(code.co_names)
    steps = steps_of(code) if own is not None or "getattr" in names else ()
    if own is not None:
        names = {step.argval for before, step in itertools.pairwise(steps) if _is_own(before, step, own)}
    parts = list(_parts_of_names(steps, own))
    return [name for name in methods if name in names or (name[:2] != "__" and any(part in name for part in parts))]


def _is_own(before: dis.Instruction, step: dis.Instruction, own: str) -> bool:
    """True if a step may load an attribute of the module, of its class or of ``super()``."""
    holds = is_self(before, own) or before.argval == "__class__" or before.opname.startswith("CALL")
    return step.opname.endswith(("_ATTR", "_METHOD")) and (holds or "SUPER" in step.opname)


def _parts_of_names(steps: Sequence[dis.Instruction], own: str | None) -> Iterator[str]:
    """Parts of the names that ``getattr`` may get from the module: "" if the code holds no part of a name."""
    for i in (i for i, step in enumerate(steps) if step.argval == "getattr"):
        given = list(itertools.takewhile(lambda step: not step.opname.startswith("CALL"), steps[i + 1 :]))
        if own is None or (given and own in _loaded(given[0]) and given[1:2] and given[1].opname != "LOAD_ATTR"):
            found = [step.argval for step in given if step.opname == "LOAD_CONST" and isinstance(step.argval, str)]
            yield from found or [""]


def _passes(code: CodeType, own: str) -> bool:
    """True if code does more with the module than to get its attributes."""
    return any(
        own in _loaded(step)
        and not after.opname.endswith(("_ATTR", "_METHOD"))
        and before.argval not in ("getattr", "hasattr", "setattr")
        for before, step, after in _threes(steps_of(code))
    )


def _threes(steps: Sequence[dis.Instruction]) -> Iterator[tuple[dis.Instruction, dis.Instruction, dis.Instruction]]:
    return zip((steps[0], *steps), steps, steps[1:], strict=False)


def _loaded(step: dis.Instruction) -> tuple[Any, ...]:
    """The variables that a step loads; some versions of Python load two at once."""
    if not step.opname.startswith("LOAD") or step.opname == "LOAD_CLOSURE":
        return ()
    return step.argval if isinstance(step.argval, tuple) else (step.argval,)


def _layers(value: Any) -> Iterator[FunctionType]:
    """The functions inside a property, a static method, a partial and decorators, outermost first."""
    if isinstance(value, property):
        value = value.fget
    elif isinstance(value, (functools.cached_property, functools.partial)):
        value = value.func
    value = held_attribute(value, "__func__") or value
    for _ in range(_MOST_DECORATORS):
        if inspect.isfunction(value):
            yield value
        value = held_attribute(value, "__wrapped__") if callable(value) else None
