"""The ops that stride: one row each, which says how to read the op, and why it is left alone where it always is."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from torch import fx, nn
from torch.ao.nn.quantized.modules.conv import _ConvNd as _QuantizedConvNd
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _LPPoolNd, _MaxPoolNd

from ..layers import Window
from .activations import function_name

#: Kinds of ops that get blurs, unless ``kinds`` leaves them out.
KINDS = ("conv", "maxpool", "avgpool")


@dataclass(frozen=True)
class Op:
    """One op that may stride.

    Attributes:
        kind: "conv", "maxpool", "avgpool", "adaptive" (a pool to a given size above 1),
            "fractional" (a pool at random places), "slice" (``x[..., ::2, ::2]`` and other picking
            of places), "resize" (interpolation that may go downwards), "unshuffle" (pixels or
            patches into channels), or a registered op's own.
        stride: For each spatial axis; empty where it depends on the input's size or is not known.
        window: Kernel size, padding and dilation; None for slices and resizing.
        in_channels: Of a convolution, where it is a module.
        out_channels: Of a convolution, where it is a module.
        left: Why it is left alone, if it always is.
    """

    kind: str
    stride: tuple[int, ...]
    window: Window | None = None
    in_channels: int | None = None
    out_channels: int | None = None
    left: str = ""

    @property
    def strides(self) -> bool:
        """True if it takes, or may take, larger steps than one along some axis."""
        return max(self.stride, default=2) > 1

    @property
    def is_pointwise(self) -> bool:
        """True for a 1x1 convolution without padding, which commutes with a blur."""
        return self.window is not None and max(self.window.size) == 1 and not any(self.window.padding)


@dataclass(frozen=True)
class StridedOp:
    """A row of the table of strided ops: how one is read, and what takes its place.

    Attributes:
        modules: Classes of modules that do it.
        read: Gives what a module does (`Op`), or None if it does not stride.
        functions: Names of torch's functions and methods that do it.
        arguments: Names of those functions' arguments, in order.
        read_call: Gives what a call does from its arguments by name and the function's name.
        blurred: Gives the module that takes a module's place: dense, then blurred. None where the
            transform itself knows (convolutions, pools).
    """

    modules: tuple[type[nn.Module], ...] = ()
    read: Callable[[Any], Op | None] | None = None
    functions: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    read_call: Callable[[dict[str, Any], str], Op | None] | None = None
    blurred: Callable[[Any, Callable[..., nn.Module]], nn.Module] | None = None


def read_op(node: fx.Node, module: nn.Module | None) -> Op | None:
    """Return what a node does if it may stride, else None.

    Args:
        node: A node of a traced graph.
        module: The module it calls, if it calls one.
    """
    if module is not None:
        return read_module(module)
    if node.op not in ("call_function", "call_method"):
        return None
    if node.target is operator.getitem:
        return _of_getitem(node)
    name = function_name(node.target)
    if name == "unfold" and node.target is not F.unfold:
        name = "windows"  # Tensor.unfold: another op of the same name
    row = _BY_FUNCTION.get(name)
    return row.read_call(_given(node, row.arguments), name) if row and row.read_call else None


def read_module(module: nn.Module) -> Op | None:
    """Return what a module does if it may stride, else None."""
    row = row_of(module)
    return row.read(module) if row is not None and row.read is not None else None


def row_of(module: nn.Module) -> StridedOp | None:
    """The row of a module's class; rows that were registered last come first."""
    return next((row for row in reversed(_ROWS) if isinstance(module, row.modules)), None)


def register_strided_op(
    modules: type[nn.Module] | tuple[type[nn.Module], ...],
    read: Callable[[Any], Op | None],
    blurred: Callable[[Any, Callable[..., nn.Module]], nn.Module] | None = None,
) -> None:
    """Let `antialias` know a module that strides in a way of its own.

    Args:
        modules: The class or classes; they are not traced into.
        read: A function from a module to its `Op`, or None if this one does not stride.
        blurred: A function (module, blur) that returns what takes the module's place.
            ``blur(channels=None, stride=...)`` makes the blur with the options that the user chose.
            None leaves the op alone: give `Op`'s ``left`` a reason then.

    Raises:
        TypeError: If ``modules`` holds no classes of modules.

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


def _given(node: fx.Node, names: tuple[str, ...]) -> dict[str, Any]:
    """A call's arguments by name."""
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _read_conv(module: _ConvNd) -> Op:
    padding = module.padding if isinstance(module.padding, tuple) else tuple(0 for _ in module.stride)
    window = Window(module.kernel_size, padding, module.dilation)
    return Op("conv", module.stride, window, module.in_channels, module.out_channels)


def _call_conv(given: dict[str, Any], name: str) -> Op | None:
    transposed = name == "convolution" and given.get("transposed", False)  # elsewhere that place holds the groups
    ndim = int(name[4]) if name[4:5].isdigit() else len(given.get("stride", (1, 1)))
    stride, padding, dilation = (_each(given.get(key, default), ndim) for key, default in _CONV_DEFAULTS)
    if transposed or stride is None:
        return None
    # The kernel's size is the weight's and not in the graph: 2 stands for "may be larger than 1".
    return Op("conv", stride, Window((2,) * ndim, padding or (0,) * ndim, dilation or (1,) * ndim))


def _read_pool(module: Any) -> Op | None:
    kind, classes = next((kind, classes) for kind, classes in _POOLS.items() if isinstance(module, classes[0]))
    size = module.kernel_size
    known = next((n for n, cls in enumerate(classes[1:], 1) if isinstance(module, cls)), None)
    ndim = known or (len(size) if isinstance(size, tuple) else 2)
    return _pool("avgpool" if kind == "lppool" else kind, ndim, {**_POOL_DEFAULTS, **vars(module)})


def _call_pool(given: dict[str, Any], name: str) -> Op | None:
    kind, _, rest = name.partition("_pool")
    if "with_indices" in name:
        given = {**given, "return_indices": True}
    found = _pool(f"{kind}pool", int(rest[0]), {**_POOL_DEFAULTS, **given})
    if found and kind == "lp":
        return replace(found, kind="avgpool", left="a pool of powers, by function")
    return found


def _pool(kind: str, ndim: int, facts: dict[str, Any]) -> Op | None:
    size = _each(facts["kernel_size"], ndim)
    stride = _each(facts["stride"], ndim) or size  # None and () mean the kernel's size
    padding, dilation = _each(facts["padding"], ndim), _each(facts["dilation"], ndim)
    if size is None or stride is None or padding is None or dilation is None:
        return Op(kind, (), left="its window or stride is computed while the model runs")
    found = Op(kind, stride, Window(size, padding, dilation, bool(facts["ceil_mode"])))
    if facts.get("return_indices"):
        return replace(found, left="returns the maxima's places too, which a blurred map does not have")
    if facts.get("divisor_override") is not None:
        return replace(found, left="divides by a number of its own (divisor_override): no average, which a blur is")
    return found


def _read_adaptive(module: Any) -> Op | None:
    return _adaptive(module.output_size)


def _adaptive(size: Any) -> Op | None:
    """A pool to a given size; to 1 it reads the whole map, and None keeps an axis."""
    sizes = size if isinstance(size, (tuple, list)) else (size,)
    return None if all(n in (1, None) for n in sizes) else Op("adaptive", (), left=_ADAPTIVE)


def _resize(size: Any, factor: Any) -> Op | None:
    factors = factor if isinstance(factor, (tuple, list)) else (factor,)
    if size is not None or not all(isinstance(f, (int, float)) for f in factors):
        return Op("resize", (), left=_RESIZE)  # up or down: known only when it runs
    down = min(factors) < 1
    return Op("resize", tuple(max(1, round(1 / f)) for f in factors), left=_RESIZE) if down else None


def _call_resize(given: dict[str, Any], _: str) -> Op | None:
    return None if given.get("antialias") else _resize(given.get("size"), given.get("scale_factor"))


def _unshuffle(step: Any) -> Op | None:
    steps = _each(step, 2)
    return None if steps is None else Op("unshuffle", steps, left=_UNSHUFFLE)


def _call_window(given: dict[str, Any], _: str) -> Op | None:
    step = given.get("step")
    return Op("unshuffle", (step,) if isinstance(step, int) else (), left=_UNSHUFFLE)


def _call_index(given: dict[str, Any], _: str) -> Op | None:
    return None if given.get("dim") in (0, 1) else Op("slice", (), left=_SLICE)


def _call_deformed(given: dict[str, Any], _: str) -> Op | None:
    stride = _each(given.get("stride", 1), 2)
    return Op("conv", stride or (), left=_DEFORMED)


def _call_reduction(given: dict[str, Any], name: str) -> Op | None:
    """A pool over the windows that a view has put side by side: ``x.view(n, c, h // 2, 2, w // 2, 2).mean((3, 5))``."""
    source, dims = given.get("input"), given.get("dim")
    dims = dims if isinstance(dims, (tuple, list)) else (dims,)
    if not all(isinstance(dim, int) and (dim < 0 or dim > 2) for dim in dims):
        return None
    windows = isinstance(source, fx.Node) and function_name(source.target) == "unfold"
    pools = windows or _is_split(source, whole=True)
    return Op("avgpool" if name in ("mean", "sum") else "maxpool", (), left=_WINDOWS) if pools else None


def _call_select(given: dict[str, Any], _: str) -> Op | None:
    picks = _is_split(given.get("input")) and given.get("dim") not in (0, 1)
    return Op("slice", (), left=_SLICE) if picks else None


def _call_part(given: dict[str, Any], _: str) -> Op | None:
    """A part of an axis, which may be the one that holds what a view has put side by side."""
    picks = _is_split(given.get("input"), whole=True) and given.get("dim", 0) not in (0, 1)
    return Op("slice", (), left=_SLICE) if picks else None


def _call_slice(given: dict[str, Any], _: str) -> Op | None:
    step = given.get("step", 1)
    if isinstance(step, int) and step > 1:
        return Op("slice", (step,), left=_SLICE)
    return _call_part(given, "")


def _is_split(value: Any, whole: bool = False) -> bool:
    """True for a view that may put neighbours on an axis side by side, in an axis of their own.

    Args:
        value: What may be the view.
        whole: Only if it has more axes than a map of two dimensions, as far as its code tells.
    """
    if not isinstance(value, fx.Node) or function_name(value.target) not in _SPLITS:
        return False
    sizes: Any = value.args[1:]
    sizes = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    return not whole or function_name(value.target) == "unflatten" or len(sizes) > 4


def _of_getitem(node: fx.Node) -> Op | None:
    index, source = node.args[1], node.args[0]
    if not isinstance(index, tuple):
        return None
    steps = [part.step for part in index if isinstance(part, slice)]
    known = tuple(step for step in steps if isinstance(step, int))
    if max(known, default=1) > 1 or any(isinstance(step, fx.Node) for step in steps):
        return Op("slice", known if max(known, default=1) > 1 else (), left=_SLICE)
    spatial = index[index.index(Ellipsis) + 1 :] if Ellipsis in index else index[2:]
    picks = any(isinstance(part, (fx.Node, list)) for part in spatial)
    parts = _is_split(source, whole=True) and any(isinstance(part, slice) and part != slice(None) for part in spatial)
    if picks or parts or (_is_split(source) and any(type(part) is int for part in spatial)):
        return Op("slice", (), left=_SLICE)
    return None


def _each(value: Any, ndim: int) -> tuple[int, ...] | None:
    """One integer for each axis, or None if there are none or they are computed in the graph."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * ndim
    if len(values) == 1:
        values *= ndim
    return values if len(values) == ndim and all(type(v) is int for v in values) else None


def _names(pattern: str, dims: Sequence[int] = (1, 2, 3)) -> tuple[str, ...]:
    return tuple(pattern.format(n) for n in dims)


_ADAPTIVE = "pools to a given size: its windows depend on the input's size"
_SLICE = "picks places by their index: whether along an image is not known"
_RESIZE = "resizes: where that is downwards, antialias=True makes interpolate low-pass filter"
_UNSHUFFLE = "moves pixels into channels: none is dropped, and no blur can stand between"
_QUANTIZED = "quantized: its maps have no blur; antialias the network first, and quantise it then"
_DEFORMED = "its offsets are those of the strided map: it has no dense evaluation"
_WINDOWS = "pools the windows of a view: no op of its own, whose stride could be given up"
_SPLITS = ("view", "reshape", "unflatten", "_unsafe_view")
_FRACTIONAL = "pools at random places"
_CONV_DEFAULTS = (("stride", 1), ("padding", 0), ("dilation", 1))
_POOL_DEFAULTS: dict[str, Any] = {"kernel_size": 1, "stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
_POOLS: dict[str, tuple[type[nn.Module], ...]] = {
    "maxpool": (_MaxPoolNd, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    "avgpool": (_AvgPoolNd, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    "lppool": (_LPPoolNd, nn.LPPool1d, nn.LPPool2d, nn.LPPool3d),
}
_ROWS = [
    StridedOp(
        (_ConvNd,),
        _read_conv,
        (*_names("conv{}d"), "convolution"),
        ("input", "weight", "bias", "stride", "padding", "dilation", "transposed"),
        _call_conv,
    ),
    StridedOp((_ConvTransposeNd,), lambda _: None),
    StridedOp((_QuantizedConvNd,), lambda module: Op("conv", _each(module.stride, 2) or (), left=_QUANTIZED)),
    StridedOp(
        (_MaxPoolNd,),
        _read_pool,
        (*_names("max_pool{}d"), *_names("max_pool{}d_with_indices")),
        ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
        _call_pool,
    ),
    StridedOp(
        (_AvgPoolNd,),
        _read_pool,
        _names("avg_pool{}d"),
        ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
        _call_pool,
    ),
    StridedOp(
        (_LPPoolNd,),
        _read_pool,
        _names("lp_pool{}d"),
        ("input", "norm_type", "kernel_size", "stride", "ceil_mode"),
        _call_pool,
    ),
    StridedOp(
        (nn.FractionalMaxPool2d, nn.FractionalMaxPool3d),
        lambda _: Op("fractional", (), left=_FRACTIONAL),
        (*_names("fractional_max_pool{}d", (2, 3)), *_names("fractional_max_pool{}d_with_indices", (2, 3))),
        (),
        lambda *_: Op("fractional", (), left=_FRACTIONAL),
    ),
    StridedOp(
        (_AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd),
        _read_adaptive,
        (
            *_names("adaptive_avg_pool{}d"),
            *_names("adaptive_max_pool{}d"),
            *_names("adaptive_max_pool{}d_with_indices"),
        ),
        ("input", "output_size"),
        lambda given, _: _adaptive(given.get("output_size")),
    ),
    StridedOp(
        (nn.Upsample,),
        lambda module: _resize(module.size, module.scale_factor),
        ("interpolate",),
        ("input", "size", "scale_factor", "mode", "align_corners", "", "antialias"),
        _call_resize,
    ),
    StridedOp(
        (nn.PixelUnshuffle,),
        lambda module: _unshuffle(module.downscale_factor),
        ("pixel_unshuffle",),
        ("input", "downscale_factor"),
        lambda given, _: _unshuffle(given.get("downscale_factor")),
    ),
    StridedOp(
        functions=("index_select", "take_along_dim", "gather", "as_strided", "grid_sample", "grid_sampler"),
        arguments=("input", "dim", "index"),
        read_call=_call_index,
    ),
    StridedOp(
        functions=("deform_conv2d",),
        arguments=("input", "offset", "weight", "bias", "stride"),
        read_call=_call_deformed,
    ),
    StridedOp(
        functions=("mean", "sum", "amax", "amin", "max", "min"),
        arguments=("input", "dim"),
        read_call=_call_reduction,
    ),
    StridedOp(functions=("select", "unbind"), arguments=("input", "dim"), read_call=_call_select),
    StridedOp(functions=("narrow", "narrow_copy"), arguments=("input", "dim"), read_call=_call_part),
    StridedOp(
        functions=("chunk", "split", "split_with_sizes", "tensor_split"),
        arguments=("input", "sizes", "dim"),
        read_call=_call_part,
    ),
    StridedOp(functions=("slice",), arguments=("input", "dim", "start", "end", "step"), read_call=_call_slice),
    StridedOp(
        (nn.Unfold,),
        lambda module: _unshuffle(module.stride),
        ("unfold", "im2col"),
        ("input", "kernel_size", "dilation", "padding", "stride"),
        lambda given, _: _unshuffle(given.get("stride", 1)),
    ),
    StridedOp(functions=("windows",), arguments=("input", "dim", "size", "step"), read_call=_call_window),
]
_OWN_ROWS = len(_ROWS)
_BY_FUNCTION = {name: row for row in _ROWS for name in row.functions}
