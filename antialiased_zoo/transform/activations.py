"""The modules that work on each place of a map by itself, and those that norm a map by its own statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules import activation as activations
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

# What these do depends on the axis.
_BY_AXIS = (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.GLU)
ACTIVATIONS = tuple(
    cls for name in activations.__all__ if isinstance(cls := getattr(activations, name), type) and cls not in _BY_AXIS
)
NORMS = (_NormBase, nn.GroupNorm)
# A subclass may compute something else: its class says only what it computes if its forward is one
# of these.
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_POINTWISE: tuple[Any, ...] = (*ACTIVATIONS, nn.BatchNorm2d, nn.SyncBatchNorm, *_DROPOUTS, nn.Identity)
_KEEPING_PLACES = frozenset(cls.forward for cls in _POINTWISE)

# These take their statistics over the map at hand, so they differ on a dense map and on its
# subsampled one.
MAP_NORM_FUNCTIONS = frozenset(["group_norm", "instance_norm", "layer_norm"])

_registered_modules: list[type[nn.Module]] = []
_registered_functions: list[Callable[..., Any]] = []


def register_activation(activation: type[nn.Module] | Callable[..., Any]) -> None:
    """Let the transform take a module class or a function for a pointwise nonlinearity: a blur waits for it.

    What `torch.fx` can look into need not be registered: ``x * torch.sigmoid(x)`` and the like are
    understood. It is for activations written in another language or with control flow on values.

    Args:
        activation: A subclass of ``nn.Module``, or a function marked with `torch.fx.wrap`. It
            computes each output from the inputs at the same place, and keeps the map's shape.

    Raises:
        TypeError: If it is neither.

    Example:
        >>> class Hard(nn.Module):
        ...     def forward(self, x):
        ...         return x if x.sum() < 0 else x.clamp(0, 1)
        >>> register_activation(Hard)
    """
    if isinstance(activation, type) and issubclass(activation, nn.Module):
        _registered_modules.append(activation)
    elif callable(activation) and not isinstance(activation, type):
        _registered_functions.append(activation)
    else:
        raise TypeError(f"an activation is a subclass of nn.Module or a function, got {activation!r}")


def registered_activations() -> tuple[type[nn.Module], ...]:
    """Classes given to `register_activation`."""
    return tuple(_registered_modules)


def function_name(target: Any) -> str:
    """Name of a function of torch's, or of a method, without overload and in-place mark; "" for other functions."""
    if isinstance(target, str):
        return target.rstrip("_")
    origin = str(getattr(target, "__module__", "") or "")
    name = str(getattr(target, "__name__", ""))
    if not origin.startswith(("torch", "_operator", "builtins")) and not isinstance(target, torch._ops.OpOverload):
        return ""
    return name.partition(".")[0].strip("_")


def is_activation(module: nn.Module | None) -> bool:
    """True for a module that is a pointwise nonlinearity."""
    return isinstance(module, (*ACTIVATIONS, *_registered_modules))


def is_map_norm(module: nn.Module | None) -> bool:
    """True for norms whose statistics are the map's own."""
    return isinstance(module, (_InstanceNorm, nn.GroupNorm))


def inner_activations(module: nn.Module) -> list[str]:
    """Names of the activations inside a module."""
    return [name for name, child in module.named_modules() if name and is_activation(child)]


def keeps_places(module: nn.Module) -> bool:
    """True for a module that is known to work on each place of a map by itself; others are tried out."""
    return type(module).forward in _KEEPING_PLACES or isinstance(module, tuple(_registered_modules))


def is_registered(function: Any) -> bool:
    """True for a function given to `register_activation`."""
    return function in _registered_functions
