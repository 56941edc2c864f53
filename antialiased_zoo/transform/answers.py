"""What answers for functions that take no proxies, while a model is traced: for a value's class, as the value would."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from .value_classes import split_count

ClassOf = Callable[[fx.Node], type | None]
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
        self.of_python = {**_class_questions(class_of), "len": _length}
        self.of_torch: dict[str, Callable[..., Any]] = {name: _with_sizes(getattr(torch, name)) for name in _SIZED}
        self.of_torch["is_tensor"] = _asks_class(torch.is_tensor, class_of)

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


def _class_questions(class_of: ClassOf) -> dict[str, Any]:
    """Builtin functions that ask for a value's class, by name, as they would answer for what proxies stand for.

    Args:
        class_of: Returns the class of a node's value; None if it is not known.
    """
    asks = _asks_class(builtins.isinstance, class_of)
    return {
        "isinstance": asks,
        "callable": lambda value: asks(value, Callable),
        "hasattr": lambda value, name: _has(value, name, class_of),
        "getattr": lambda value, name, *default: _get(value, name, default, class_of),
        "type": _Type(class_of),
    }


def _asks_class(real: Callable[..., bool], class_of: ClassOf) -> Callable[..., bool]:
    """`isinstance` or `torch.is_tensor`, as it would answer for the values that proxies stand for.

    Args:
        real: The function for other values.
        class_of: Returns the class of a node's value; None if it is not known.
    """

    def answer(value: Any, asked: Any = torch.Tensor) -> bool:
        if not builtins.isinstance(value, fx.Proxy):
            return real(value, asked) if real is builtins.isinstance else real(value)
        classes = asked if builtins.isinstance(asked, tuple) else (asked,)
        if fx.Proxy in classes:  # asks whether it is traced
            return True
        if all(map(_is_never, classes)):
            return False
        return issubclass(_known(value, f"is a {getattr(asked, '__name__', asked)}", class_of), asked)

    return answer


class _Type:
    """`type`, which may also be asked about, as in ``isinstance(value, type)``."""

    def __init__(self, class_of: ClassOf) -> None:
        self._class_of = class_of

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and builtins.isinstance(args[0], fx.Proxy):
            return _known(args[0], "is of some class", self._class_of)
        return builtins.type(*args, **kwargs)

    def __instancecheck__(self, value: Any) -> bool:
        return builtins.isinstance(value, type)

    def __subclasscheck__(self, value: Any) -> bool:
        return issubclass(value, type)

    def __getattr__(self, name: str) -> Any:
        return builtins.getattr(type, name)


def _has(value: Any, name: str, class_of: ClassOf) -> bool:
    if not builtins.isinstance(value, fx.Proxy):
        return hasattr(value, name)
    if name in vars(value) and name not in ("node", "tracer"):  # the model's code has set it
        return True
    # Not hasattr(): a class also has the attributes of `type`, which its objects lack.
    return any(name in vars(cls) for cls in _known(value, f"has {name}", class_of).__mro__)


def _get(value: Any, name: str, default: tuple[Any, ...], class_of: ClassOf) -> Any:
    if not default or not builtins.isinstance(value, fx.Proxy):
        return getattr(value, name, *default)
    return getattr(value, name) if _has(value, name, class_of) else default[0]


def _known(value: fx.Proxy, question: str, class_of: ClassOf) -> type:
    found = class_of(value.node)
    if found is None:
        raise TypeError(f"asks whether {value.node.name} {question}, which is not known")
    return found


def _is_never(asked: Any) -> bool:
    """True for a class that no value of a graph has."""
    return builtins.isinstance(asked, type) and issubclass(asked, (nn.Module, str, fx.Proxy))
