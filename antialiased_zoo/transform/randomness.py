"""Trials: a model's code runs without the process's random number generators, and what it keeps can be told apart."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode, is_tensor_method_or_property

from ..layers import TorchDispatchMode, without_dispatch_modes
from .own_code import has_hooks_inside

_MAKING = "rand rand_like randint randint_like randn randn_like randperm"
_FILLING = "bernoulli cauchy exponential geometric log_normal multinomial normal poisson random uniform"
_DRAWING = frozenset(f"{name}{mark}" for name in f"{_MAKING} {_FILLING}".split() for mark in ("", "_"))

_MARK = "_of_a_trial"


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


class Apart(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives each op that draws random numbers a generator of its own, and marks results; active in one thread only."""

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
        result = func(*args, **given)
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor):
                vars(value)[_MARK] = True
        return result


def is_of_trial(value: Any) -> bool:
    """True for a tensor that a trial has made."""
    return isinstance(value, Tensor) and _MARK in vars(value)


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
    with Apart():
        return function(*args, **kwargs)


def drawn_copy(module: nn.Module, draw: Callable[[Sequence[int]], Tensor]) -> nn.Module:
    """A copy of a module in evaluation mode, on the CPU, with random parameters and buffers.

    Raises:
        ValueError: If it has integers without data, or if hooks would run.
    """
    tensors = [*module.parameters(), *module.buffers()]
    if any(t.is_meta and not t.is_floating_point() for t in tensors) or has_hooks_inside(module):
        raise ValueError("cannot be tried")
    twin = copy.deepcopy(module).eval()
    twin = (twin.to_empty(device="cpu") if any(t.is_meta for t in tensors) else twin.cpu()).float()
    for tensor in (*twin.parameters(), *twin.buffers()):
        if tensor.is_floating_point():
            tensor.copy_(draw(tensor.shape))
    return twin
