"""Random numbers of a model's code become nodes of its graph."""

from __future__ import annotations

from typing import Any

from torch import fx
from torch.overrides import TorchFunctionMode, is_tensor_method_or_property

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
