"""Which modules and functions are pointwise, and which normalise a map by its own statistics.

A pointwise operation computes each output position from the same position of its inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.modules import activation as activations
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from ..layers import is_operator

# These work along an axis, so they are not pointwise on every map.
_BY_AXIS = (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.GLU)
ACTIVATIONS = tuple(
    cls for name in activations.__all__ if isinstance(cls := getattr(activations, name), type) and cls not in _BY_AXIS
)
NORMS = (_NormBase, nn.GroupNorm)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_POINTWISE: tuple[Any, ...] = (*ACTIVATIONS, nn.BatchNorm2d, nn.SyncBatchNorm, *_DROPOUTS, nn.Identity)
# Compared with a module's forward, not its class: a subclass may compute something else.
_POINTWISE_FORWARDS = frozenset(cls.forward for cls in _POINTWISE)

# Their statistics are taken over the map, so a dense map and its subsampled map give different ones.
MAP_NORM_FUNCTIONS = frozenset(["group_norm", "instance_norm", "layer_norm"])

_registered_modules: list[type[nn.Module]] = []
_registered_functions: list[Callable[..., Any]] = []


def register_activation(activation: type[nn.Module] | Callable[..., Any]) -> None:
    """Register a module class or a function as a pointwise nonlinearity, so that blurs go after it.

    Code that `torch.fx` can trace, such as ``x * torch.sigmoid(x)``, need not be registered. This is
    for activations written in another language or with control flow that depends on values.

    Args:
        activation: A subclass of ``nn.Module``, or a function marked with `torch.fx.wrap`. It
            computes each output from the inputs at the same position, and keeps the map's shape.

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
        raise TypeError(f"an activation must be a subclass of nn.Module or a function, got {activation!r}")


def registered_activations() -> tuple[type[nn.Module], ...]:
    """Classes given to `register_activation`."""
    return tuple(_registered_modules)


def function_name(target: Any) -> str:
    """Name of a torch function or of a method, without overload or in-place suffix; "" for other functions."""
    if isinstance(target, str):
        return target.rstrip("_")
    origin = str(getattr(target, "__module__", "") or "")
    name = str(getattr(target, "__name__", ""))
    if not origin.startswith(("torch", "_operator", "builtins")) and not is_operator(target):
        return ""
    return name.partition(".")[0].strip("_")


def is_activation(module: nn.Module | None) -> bool:
    """True for a module that is a pointwise nonlinearity."""
    return isinstance(module, (*ACTIVATIONS, *_registered_modules))


def is_map_norm(module: nn.Module | None) -> bool:
    """True for norms that take their statistics from the map itself."""
    return isinstance(module, (_InstanceNorm, nn.GroupNorm))


def inner_activations(module: nn.Module) -> list[str]:
    """Names of the activations inside a module."""
    return [name for name, child in module.named_modules() if name and is_activation(child)]


def is_pointwise(module: nn.Module) -> bool:
    """True for a module that is known to be pointwise; `Following` tests the others on random maps."""
    forward = getattr(type(module), "forward", None)  # TorchScript's classes have none
    return forward in _POINTWISE_FORWARDS or isinstance(module, tuple(_registered_modules))


def is_registered(function: Any) -> bool:
    """True for a function given to `register_activation`."""
    return function in _registered_functions
