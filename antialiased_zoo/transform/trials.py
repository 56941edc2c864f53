"""Trials: a model's code runs without the process's random number generators, and what it keeps can be told apart."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import TorchDispatchMode, without_dispatch_modes
from .own_code import has_hooks_inside

_MARK = "_of_a_trial"


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
