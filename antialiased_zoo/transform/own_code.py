"""What a module's own code and hooks may do, judged by the names in them, where the code cannot be traced."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any

import torch
from torch import nn

from .links import BLUR_HOOKS

_FUSE = ("deploy", "fuse", "merge", "reparam")


def hooks(module: nn.Module | None) -> Iterator[Any]:
    """Yield a module's hooks, except torch's and this package's."""
    if module is None or isinstance(module, torch.jit.ScriptModule):
        return
    for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
        own = hook in BLUR_HOOKS or str(getattr(hook, "__module__", "")).startswith("torch.")
        if not own:
            yield hook


def can_fuse(module: nn.Module) -> bool:
    """True if a module has a method that fuses its branches and norms into one convolution (reparameterisation)."""
    return any(word in name for name in dir(type(module)) for word in _FUSE)


def may_run_its_children(module: nn.Module) -> bool:
    """True if the code of a module that cannot be traced may iterate over its children."""
    run = ("children", "named_children", "_modules", "modules", "named_modules")
    return not _names_in(function for cls in own_classes(module) for function in vars(cls).values()).isdisjoint(run)


def may_read_strides(module: nn.Module) -> bool:
    """True if a module's code, or a function that it refers to, may read another module's stride."""
    functions = [function for cls in own_classes(module) for function in vars(cls).values()]
    seen: set[Any] = set()
    for function in functions:  # grows by the functions that these refer to
        for code in _codes(_plain(function)):
            if code not in seen and _reads_stride(code):
                return True
            seen.add(code)
            named = (_plain(function).__globals__.get(name) for name in code.co_names)
            functions += [found for found in named if inspect.isfunction(found) and found not in functions]
    return False


def _reads_stride(code: CodeType) -> bool:
    steps = list(dis.get_instructions(code))
    loads = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_CONST")
    reads = (i for i, step in enumerate(steps) if step.argval == "stride" and step.opname in loads)
    return any(steps[i - 1].argval != "self" for i in reads)


def _plain(value: Any) -> Any:
    """The function inside a decorator, a property or a static method; other values unchanged."""
    value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    return inspect.unwrap(value) if callable(value) else value


def _codes(function: Any) -> list[CodeType]:
    """The code objects of a function and of the functions and comprehensions in it."""
    codes = [function.__code__] if inspect.isfunction(function) else []
    for code in codes:
        codes += [const for const in code.co_consts if inspect.iscode(const)]
    return codes


def own_classes(module: nn.Module) -> tuple[type, ...]:
    """A module's class and its bases, down to `nn.Module`."""
    return type(module).__mro__[: type(module).__mro__.index(nn.Module)]


def _names_in(functions: Iterable[Any]) -> set[str]:
    """The names in the code of some functions."""
    return {name for function in functions for code in _codes(_plain(function)) for name in code.co_names}
