"""What answers for functions that take no proxies, while a model is traced."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from .class_questions import ClassOf, asks_class, class_questions
from .value_classes import split_count

_SIZED = ("empty", "ones", "rand", "randn", "zeros")  # torch's functions that take sizes one by one
# The names of torch's functions that a trace replaces, by the ids of the functions themselves.
_REPLACED = {id(getattr(torch, name)): name for name in ("is_tensor", *_SIZED)}


class Answers:
    """Replacements of Python's and torch's functions, which pass all that are no proxies on.

    Args:
        class_of: Returns the class of a node's value; None if it is not known.

    Attributes:
        of_python: Replacements of builtin functions, by name.
        of_torch: Replacements of functions of torch, by name.
    """

    def __init__(self, class_of: ClassOf) -> None:
        self.of_python = {**class_questions(class_of), "len": _length}
        self.of_torch: dict[str, Callable[..., Any]] = {name: _with_sizes(getattr(torch, name)) for name in _SIZED}
        self.of_torch["is_tensor"] = asks_class(torch.is_tensor, class_of)

    def in_namespace(self, namespace: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """The names of these functions in the code of a namespace, and what replaces them."""
        found = [
            (name, answer)
            for name, answer in self.of_python.items()
            if namespace.get(name, builtin := getattr(builtins, name)) is builtin  # not a name of the code's own
        ]
        imported = ((name, _REPLACED.get(id(value))) for name, value in namespace.items())
        return found + [(name, self.of_torch[function]) for name, function in imported if function]


def _length(value: Any) -> Any:
    """`len`; of a proxy it is a node of the graph, which a check may ask for, or the number of a split's parts."""
    if not isinstance(value, fx.Proxy) or split_count(value.node) is not None:
        return len(value)
    return value.tracer.create_proxy("call_function", len, (value,), {})


def _with_sizes(make: Callable[..., Any]) -> Callable[..., Any]:
    """One of torch's functions that make a tensor; with several sizes it takes proxies only as a tuple."""

    def call(*sizes: Any, **kwargs: Any) -> Any:
        several = len(sizes) > 1 and any(isinstance(size, fx.Proxy) for size in sizes)
        return make(sizes, **kwargs) if several else make(*sizes, **kwargs)

    return call
