"""How a model's forward may be called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any

from torch import nn


def arguments(forward: Callable[..., Any]) -> list[inspect.Parameter]:
    """The arguments that a forward may be called with after the model itself, without more that it passes on."""
    _, *found = inspect.signature(inspect.unwrap(forward)).parameters.values()
    named = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return named or [p for p in found if p.kind is p.VAR_POSITIONAL]


def choices(model: nn.Module) -> dict[str, bool | None]:
    """The optional arguments that a model's code is likely to ask about, with their default: None, True or False."""
    return {p.name: p.default for p in _after_input(model) if p.default is None or isinstance(p.default, bool)}


def has_numbers(model: nn.Module) -> bool:
    """True if a model has other optional arguments."""
    return len(choices(model)) < sum(p.default is not p.empty for p in _after_input(model))


def _after_input(model: nn.Module) -> list[inspect.Parameter]:
    """The arguments of a model's forward after its input; none if they cannot be read, as those of a builtin."""
    try:
        return arguments(forward_of(model))[1:]
    except (TypeError, ValueError):
        return []


def forward_of(model: nn.Module) -> Callable[..., Any]:
    """The function behind a model's forward: its class's, unless another method was assigned to the object."""
    own = vars(model).get("forward")
    if own is None:
        return type(model).forward
    if not isinstance(own, MethodType) or own.__self__ is not model:
        raise TypeError("its forward was replaced by something that is not a method bound to it")
    return own.__func__
