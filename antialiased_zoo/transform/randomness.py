"""Runs a model's code without using the process's global random number generator."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx
from torch.overrides import TorchFunctionMode, is_tensor_method_or_property

from ..layers import TorchDispatchMode, without_dispatch_modes

_MAKING = "rand rand_like randint randint_like randn randn_like randperm"
_FILLING = "bernoulli cauchy exponential geometric log_normal multinomial normal poisson random uniform"
_DRAWING = frozenset(f"{name}{mark}" for name in f"{_MAKING} {_FILLING}".split() for mark in ("", "_"))


class DrawnLater(TorchFunctionMode):
    """Records calls that draw random numbers as nodes of the graph, which draws new numbers each time it runs.

    Args:
        tracer: The tracer that builds the graph.
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
    """Gives each op that draws random numbers a separate generator; a mode is active in one thread only."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = torch.Generator()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags:
            # Seeded for each op: what is drawn for each image is then the same for a map and for
            # every other position of it. An op that takes no generator raises.
            given["generator"] = self._generator.manual_seed(0)
        return func(*args, **given)


@contextlib.contextmanager
def trial() -> Iterator[None]:
    """A context for real tensors on the CPU without gradients, even while a model is built of fake or meta tensors."""
    with without_dispatch_modes(), torch.no_grad(), torch.device("cpu"):
        yield


def run_apart(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function on the CPU, with separate random numbers for each op that draws some.

    Raises:
        RuntimeError: If it calls a random op that takes no generator.
    """
    with _OwnRandomNumbers():
        return function(*args, **kwargs)
