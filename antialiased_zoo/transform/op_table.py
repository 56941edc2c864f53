"""The table of strided ops, one row each, and how a node or a module is read with it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import fx, nn
from torch.ao.nn.quantized.modules.conv import _ConvNd as _QuantizedConvNd
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _LPPoolNd, _MaxPoolNd

from .activations import function_name
from .op_readers import (
    FRACTIONAL,
    QUANTIZED,
    adaptive,
    call_conv,
    call_deformed,
    call_index,
    call_part,
    call_pool,
    call_reduction,
    call_resize,
    call_select,
    call_slice,
    call_window,
    each,
    named_arguments,
    of_getitem,
    read_adaptive,
    read_conv,
    read_pool,
    resize,
    unshuffle,
)
from .ops import Op, StridedOp


def read_op(node: fx.Node, module: nn.Module | None) -> Op | None:
    """Return the `Op` of a node that may stride, else None.

    Args:
        node: A node of a traced graph.
        module: The module that it calls, or None.
    """
    if module is not None:
        return read_module(module)
    if node.op not in ("call_function", "call_method"):
        return None
    if node.target is operator.getitem:
        return of_getitem(node)
    name = function_name(node.target)
    if name == "unfold" and node.target is not F.unfold:
        name = "windows"  # Tensor.unfold, another op than F.unfold
    row = _BY_FUNCTION.get(name)
    return row.read_call(named_arguments(node, row.arguments), name) if row and row.read_call else None


def read_module(module: nn.Module) -> Op | None:
    """Return the `Op` of a module that may stride, else None."""
    row = row_of(module)
    return row.read(module) if row is not None and row.read is not None else None


def row_of(module: nn.Module) -> StridedOp | None:
    """The row of a module's class; rows registered later take precedence."""
    return next((row for row in reversed(_ROWS) if isinstance(module, row.modules)), None)


def register_strided_op(
    modules: type[nn.Module] | tuple[type[nn.Module], ...],
    read: Callable[[Any], Op | None],
    blurred: Callable[[Any, Callable[..., nn.Module]], nn.Module] | None = None,
) -> None:
    """Register a module class that strides, so that `antialias` treats it.

    Args:
        modules: The class or classes; they are not traced into.
        read: A function that returns a module's `Op`, or None if the module does not stride.
        blurred: A function (module, blur) that returns the module's replacement.
            ``blur(channels=None, stride=...)`` makes the blur with the options that the user chose.
            With None the op is skipped; `Op`'s ``left`` then gives the reason.

    Raises:
        TypeError: If ``modules`` is not a module class or a tuple of them.

    Example:
        >>> class EveryOther(nn.Module):
        ...     def forward(self, x):
        ...         return x[..., ::2, ::2]
        >>> register_strided_op(EveryOther, lambda m: Op("every", (2, 2)), lambda m, blur: blur(stride=(2, 2)))
    """
    classes = modules if isinstance(modules, tuple) else (modules,)
    if not all(isinstance(cls, type) and issubclass(cls, nn.Module) for cls in classes):
        raise TypeError(f"modules must be a subclass of nn.Module, or a tuple of them, got {modules!r}")
    _ROWS.append(StridedOp(classes, read, blurred=blurred))


def registered_ops() -> tuple[type[nn.Module], ...]:
    """Classes given to `register_strided_op`."""
    return tuple(cls for row in _ROWS[_OWN_ROWS:] for cls in row.modules)


def _names(pattern: str, dims: Sequence[int] = (1, 2, 3)) -> tuple[str, ...]:
    return tuple(pattern.format(n) for n in dims)


_ROWS = [
    StridedOp(
        (_ConvNd,),
        read_conv,
        (*_names("conv{}d"), "convolution"),
        ("input", "weight", "bias", "stride", "padding", "dilation", "transposed"),
        call_conv,
    ),
    StridedOp((_ConvTransposeNd,), lambda _: None),
    StridedOp((_QuantizedConvNd,), lambda module: Op("conv", each(module.stride, 2) or (), left=QUANTIZED)),
    StridedOp(
        (_MaxPoolNd,),
        read_pool,
        (*_names("max_pool{}d"), *_names("max_pool{}d_with_indices")),
        ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
        call_pool,
    ),
    StridedOp(
        (_AvgPoolNd,),
        read_pool,
        _names("avg_pool{}d"),
        ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
        call_pool,
    ),
    StridedOp(
        (_LPPoolNd,),
        read_pool,
        _names("lp_pool{}d"),
        ("input", "norm_type", "kernel_size", "stride", "ceil_mode"),
        call_pool,
    ),
    StridedOp(
        (nn.FractionalMaxPool2d, nn.FractionalMaxPool3d),
        lambda _: Op("fractional", (), left=FRACTIONAL),
        (*_names("fractional_max_pool{}d", (2, 3)), *_names("fractional_max_pool{}d_with_indices", (2, 3))),
        (),
        lambda *_: Op("fractional", (), left=FRACTIONAL),
    ),
    StridedOp(
        (_AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd),
        read_adaptive,
        (
            *_names("adaptive_avg_pool{}d"),
            *_names("adaptive_max_pool{}d"),
            *_names("adaptive_max_pool{}d_with_indices"),
        ),
        ("input", "output_size"),
        lambda given, _: adaptive(given.get("output_size")),
    ),
    StridedOp(
        (nn.Upsample,),
        lambda module: resize(module.size, module.scale_factor),
        ("interpolate",),
        ("input", "size", "scale_factor", "mode", "align_corners", "", "antialias"),
        call_resize,
    ),
    StridedOp(
        (nn.PixelUnshuffle,),
        lambda module: unshuffle(module.downscale_factor),
        ("pixel_unshuffle",),
        ("input", "downscale_factor"),
        lambda given, _: unshuffle(given.get("downscale_factor")),
    ),
    StridedOp(
        functions=("index_select", "take_along_dim", "gather", "as_strided", "grid_sample", "grid_sampler"),
        arguments=("input", "dim", "index"),
        read_call=call_index,
    ),
    StridedOp(
        functions=("deform_conv2d",),
        arguments=("input", "offset", "weight", "bias", "stride"),
        read_call=call_deformed,
    ),
    StridedOp(
        functions=(
            *("mean", "sum", "amax", "amin", "max", "min", "median", "nanmean", "nansum", "nanmedian", "mode", "prod"),
            *("logsumexp", "std", "var", "sort"),
        ),
        arguments=("input", "dim"),
        read_call=call_reduction,
    ),
    StridedOp(
        functions=("norm", "linalg_vector_norm", "topk", "kthvalue", "quantile", "nanquantile"),
        arguments=("input", "", "dim"),
        read_call=call_reduction,
    ),
    StridedOp(functions=("select", "unbind"), arguments=("input", "dim"), read_call=call_select),
    StridedOp(functions=("narrow", "narrow_copy"), arguments=("input", "dim"), read_call=call_part),
    StridedOp(
        functions=("chunk", "split", "split_with_sizes", "tensor_split"),
        arguments=("input", "sizes", "dim"),
        read_call=call_part,
    ),
    StridedOp(functions=("slice",), arguments=("input", "dim", "start", "end", "step"), read_call=call_slice),
    StridedOp(
        (nn.Unfold,),
        lambda module: unshuffle(module.stride),
        ("unfold", "im2col"),
        ("input", "kernel_size", "dilation", "padding", "stride"),
        lambda given, _: unshuffle(given.get("stride", 1)),
    ),
    StridedOp(functions=("windows",), arguments=("input", "dim", "size", "step"), read_call=call_window),
]
_OWN_ROWS = len(_ROWS)
_BY_FUNCTION = {name: row for row in _ROWS for name in row.functions}
