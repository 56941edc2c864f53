"""What keeps a map's places: which ops are linear at each place, and which are nonlinearities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules import activation as activations
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

#: What an op does at each place of a map, apart from the others: affine, or a nonlinearity.
Role = Literal["linear", "nonlinear"]

_NOT_POINTWISE = (activations.MultiheadAttention, activations.Softmax, activations.Softmax2d, activations.LogSoftmax)
ACTIVATIONS = tuple(
    cls
    for name in activations.__all__
    if isinstance(cls := getattr(activations, name), type) and cls not in _NOT_POINTWISE
)
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)

_NONLINEAR = frozenset(
    [
        *("abs", "celu", "clamp", "clamp_max", "clamp_min", "clip", "cos", "elu", "erf", "exp", "expm1", "gelu"),
        *("hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log", "log1p", "logsigmoid"),
        *("maximum", "minimum", "fmax", "fmin", "mish", "pow", "prelu", "reciprocal", "relu", "relu6", "rrelu"),
        *("rsqrt", "selu", "sigmoid", "sign", "silu", "sin", "softplus", "softshrink", "softsign", "sqrt"),
        *("square", "tanh", "tanhshrink", "threshold", "where", "gt", "ge", "lt", "le", "eq", "ne", "expit", "glu"),
    ]
)
_LINEAR = frozenset(
    [
        *("alpha_dropout", "batch_norm", "bfloat16", "clone", "contiguous", "detach", "double", "dropout", "dropout1d"),
        *("dropout2d", "dropout3d", "feature_alpha_dropout", "feature_dropout", "float", "half", "neg", "negative"),
        *("positive", "to", "type", "type_as"),
    ]
)
_SUMS = frozenset(["add", "iadd", "sub", "isub", "subtract", "rsub"])
_PRODUCTS = frozenset(["mul", "imul", "multiply"])
_QUOTIENTS = frozenset(["div", "truediv", "itruediv", "divide", "true_divide"])
# These change the number of channels: only along the channels do they keep a map's places.
_CHANNELS = frozenset(["chunk", "split", "tensor_split", "cat", "concat", "glu"])
# These take their statistics over the map at hand, so they differ on a dense map and on its subsampled one.
MAP_NORM_FUNCTIONS = frozenset(["group_norm", "instance_norm", "layer_norm"])

_registered_modules: list[type[nn.Module]] = []
_registered_functions: list[Callable[..., Any]] = []


def register_activation(activation: type[nn.Module] | Callable[..., Any]) -> None:
    """Let the transform take a module class or a function for a pointwise nonlinearity: a blur waits for it.

    What `torch.fx` can look into need not be registered: ``x * torch.sigmoid(x)`` and the like are understood. It is
    for activations written in another language or with control flow on values.

    Args:
        activation: A subclass of ``nn.Module``, or a function marked with `torch.fx.wrap`. It computes each output
            from the inputs at the same place, and keeps the map's shape.

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
    if isinstance(module, nn.GLU):
        return module.dim == 1
    return isinstance(module, (*ACTIVATIONS, *_registered_modules))


def is_map_norm(module: nn.Module | None) -> bool:
    """True for norms whose statistics are the map's own: group and instance norms, and layer norms over a map."""
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return type(module).forward in (nn.LayerNorm.forward, nn.RMSNorm.forward)  # others permute to channels-last
    return isinstance(module, (_InstanceNorm, nn.GroupNorm))


def inner_activations(module: nn.Module) -> list[str]:
    """Names of the activations inside a module."""
    return [name for name, child in module.named_modules() if name and is_activation(child)]


def role_of_module(module: nn.Module) -> Role | None:
    """What a module does at each place of a map; None if it does not keep the places."""
    if is_activation(module):
        return "nonlinear"
    if isinstance(module, (*NORMS, nn.RMSNorm)) and not is_map_norm(module):
        return "nonlinear" if inner_activations(module) else "linear"
    return "linear" if isinstance(module, (_DropoutNd, nn.Identity)) else None


def role_of_function(target: Any, read: int, given: int, dim: Any) -> Role | None:
    """What a function or method does at each place of a map; None if it does not keep the places.

    Args:
        target: A graph node's target.
        read: How many of its arguments depend on the map.
        given: How many arguments are tensors or numbers that it combines.
        dim: Its argument ``dim``, or None.
    """
    if target in _registered_functions:
        return "nonlinear"
    name = function_name(target)
    if name in _CHANNELS:
        return None if dim != 1 else "nonlinear" if name == "glu" else "linear"
    if name in _SUMS:
        return "linear"
    if name in _PRODUCTS or name in _QUOTIENTS:
        return "linear" if read == 1 else "nonlinear"
    if name in ("max", "min"):
        return "nonlinear" if given == 2 and dim is None else None
    return "nonlinear" if name in _NONLINEAR else "linear" if name in _LINEAR else None
