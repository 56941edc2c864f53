"""Runs a model's code without touching the random numbers that all threads of a process share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.overrides import TorchFunctionMode, is_tensor_method_or_property

from ..layers import TorchDispatchMode

_MAKING = "rand rand_like randint randint_like randn randn_like randperm"
_FILLING = "bernoulli cauchy exponential geometric log_normal multinomial normal poisson random uniform"
_DRAWING = frozenset(f"{name}{mark}" for name in f"{_MAKING} {_FILLING}".split() for mark in ("", "_"))


class DrawnLater(TorchFunctionMode):
    """Makes ops of a graph of calls that draw random numbers: tracing draws none, and the graph draws anew each time.

    Args:
        tracer: Writes the graph.
    """

    def __init__(self, tracer: fx.Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(getattr(func, "__name__", ""))
        if name not in _DRAWING:
            return func(*args, **(kwargs or {}))
        method = is_tensor_method_or_property(func)
        kind, target = ("call_method", name) if method else ("call_function", func)
        return self._tracer.create_proxy(kind, target, args, kwargs or {})


class _OwnRandomNumbers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives each op that draws numbers a generator of its own; modes belong to one thread."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = torch.Generator()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags:
            # Anew each time: what is drawn for each image is then the same for a map and for some
            # of its places. An op that takes no generator raises.
            given["generator"] = self._generator.manual_seed(0)
        return func(*args, **given)


def run_apart(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function that may draw random numbers, on the CPU.

    Raises:
        RuntimeError: If it draws numbers by an op that takes no generator.
    """
    with _OwnRandomNumbers():
        return function(*args, **kwargs)
