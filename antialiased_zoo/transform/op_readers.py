"""Readers of strided ops: each makes an `Op` from a module's attributes or a call's arguments."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AvgPoolNd, _LPPoolNd, _MaxPoolNd

from ..layers import Window
from .activations import function_name
from .ops import Op

_ADAPTIVE = "pools to a given size: its windows depend on the input's size"
_SLICE = "selects positions by index, perhaps not along an image axis"
_RESIZE = "resizes: if it downsamples, pass antialias=True to interpolate, which then low-pass filters"
_UNSHUFFLE = "moves pixels into channels: none is dropped, so there is no place for a blur"
QUANTIZED = "quantized: antialias the network first, then quantize it"
_DEFORMED = "deformable: its offsets belong to the strided map, so it cannot be evaluated densely"
_UNKNOWN = "its window or stride is known only while the model runs"
_WINDOWS = "pools windows that a view makes: there is no op with a stride to change"
_SPLITS = ("view", "reshape", "unflatten", "_unsafe_view")
_REORDERINGS = ("transpose", "permute", "movedim", "moveaxis", "swapaxes", "swapdims", "t")
_LAST = ("kthvalue", "sort", "topk")  # these reduce the last axis if no other is given
FRACTIONAL = "pools at random positions"
_CONV_DEFAULTS = (("stride", 1), ("padding", 0), ("dilation", 1))
_POOL_DEFAULTS: dict[str, Any] = {"kernel_size": 1, "stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
_POOLS: dict[str, tuple[type[nn.Module], ...]] = {
    "maxpool": (_MaxPoolNd, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    "avgpool": (_AvgPoolNd, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    "lppool": (_LPPoolNd, nn.LPPool1d, nn.LPPool2d, nn.LPPool3d),
}


def read_conv(module: _ConvNd) -> Op:
    """Read a convolution module."""
    ndim = len(module.kernel_size)
    size, stride, padding, dilation = (
        each(value, ndim) for value in (module.kernel_size, module.stride, module.padding, module.dilation)
    )
    if size is None or stride is None or dilation is None:
        return Op("conv", (), left=_UNKNOWN)
    window = Window(size, padding or (0,) * ndim, dilation)  # the padding may be a word
    return Op("conv", stride, window, module.in_channels, module.out_channels)


def call_conv(given: dict[str, Any], name: str) -> Op | None:
    """Read a functional convolution; None for transposed ones."""
    transposed = name == "convolution" and given.get("transposed", False)  # other functions have groups there
    ndim = int(name[4]) if name[4:5].isdigit() else len(given.get("stride", (1, 1)))
    stride, padding, dilation = (each(given.get(key, default), ndim) for key, default in _CONV_DEFAULTS)
    if transposed:
        return None
    if stride is None:
        return Op("conv", (), left=_UNKNOWN)
    # The graph does not show the weight's size: 2 means "may be larger than 1".
    return Op("conv", stride, Window((2,) * ndim, padding or (0,) * ndim, dilation or (1,) * ndim))


def read_pool(module: Any) -> Op | None:
    """Read a pool module."""
    kind, classes = next((kind, classes) for kind, classes in _POOLS.items() if isinstance(module, classes[0]))
    size = module.kernel_size
    known = next((n for n, cls in enumerate(classes[1:], 1) if isinstance(module, cls)), None)
    ndim = known or (len(size) if isinstance(size, tuple) else 2)
    return _pool("avgpool" if kind == "lppool" else kind, ndim, {**_POOL_DEFAULTS, **vars(module)})


def call_pool(given: dict[str, Any], name: str) -> Op | None:
    """Read a functional pool."""
    kind, _, rest = name.partition("_pool")
    if "with_indices" in name:
        given = {**given, "return_indices": True}
    found = _pool(f"{kind}pool", int(rest[0]), {**_POOL_DEFAULTS, **given})
    if found and kind == "lp":
        return replace(found, kind="avgpool", left="a functional power-average (LP) pool")
    return found


def _pool(kind: str, ndim: int, facts: dict[str, Any]) -> Op | None:
    size = each(facts["kernel_size"], ndim)
    stride = each(facts["stride"], ndim) or size  # None and () mean the kernel's size
    padding, dilation = each(facts["padding"], ndim), each(facts["dilation"], ndim)
    if size is None or stride is None or padding is None or dilation is None:
        return Op(kind, (), left=_UNKNOWN)
    found = Op(kind, stride, Window(size, padding, dilation, bool(facts["ceil_mode"])))
    if facts.get("return_indices"):
        return replace(found, left="returns the indices of the maxima, which a blurred map does not have")
    if facts.get("divisor_override") is not None:
        return replace(found, left="divides by divisor_override: not an average, so a blur cannot replace it")
    return found


def read_adaptive(module: Any) -> Op | None:
    """Read a module that pools to a given size."""
    return adaptive(module.output_size)


def adaptive(size: Any) -> Op | None:
    """A pool to a given size. A size of 1 reads the whole map, and None keeps an axis: these do not stride."""
    sizes = size if isinstance(size, (tuple, list)) else (size,)
    return None if all(n in (1, None) for n in sizes) else Op("adaptive", (), left=_ADAPTIVE)


def resize(size: Any, factor: Any) -> Op | None:
    """An interpolation that downsamples, or may."""
    factors = factor if isinstance(factor, (tuple, list)) else (factor,)
    if size is not None or not all(isinstance(f, (int, float)) for f in factors):
        return Op("resize", (), left=_RESIZE)  # up or down is known only when it runs
    down = min(factors) < 1
    return Op("resize", tuple(max(1, round(1 / f)) for f in factors), left=_RESIZE) if down else None


def call_resize(given: dict[str, Any], _: str) -> Op | None:
    """Read a functional interpolation."""
    return None if given.get("antialias") else resize(given.get("size"), given.get("scale_factor"))


def unshuffle(step: Any) -> Op:
    """An op that moves pixels or patches into channels."""
    return Op("unshuffle", each(step, 2) or (), left=_UNSHUFFLE)


def call_window(given: dict[str, Any], _: str) -> Op | None:
    """Read a call of `Tensor.unfold`."""
    step = given.get("step")
    return Op("unshuffle", (step,) if isinstance(step, int) else (), left=_UNSHUFFLE)


def call_index(given: dict[str, Any], _: str) -> Op | None:
    """Read a function that selects positions by a tensor of indices."""
    first = given.get("dim") in (0, 1) and not _is_call(given.get("input"), _REORDERINGS)
    return None if first else Op("slice", (), left=_SLICE)


def call_deformed(given: dict[str, Any], _: str) -> Op | None:
    """Read a functional deformable convolution."""
    stride = each(given.get("stride", 1), 2)
    return Op("conv", stride or (), left=_DEFORMED)


def call_reduction(given: dict[str, Any], name: str) -> Op | None:
    """Read a reduction over windows that a view makes, such as ``x.view(n, c, h // 2, 2, w // 2, 2).mean((3, 5))``."""
    source, dims = given.get("input"), given.get("dim", given.get("axis", -1 if name in _LAST else None))
    dims = dims if isinstance(dims, (tuple, list)) else (dims,)
    if not all(isinstance(dim, int) for dim in dims):
        return None
    source, dims = _before_reordering(source, dims)
    behind = all(dim < 0 or dim > 2 for dim in dims) and (
        _is_call(source, ("unfold",)) or _is_split(source, whole=True)
    )
    if not behind and not _reduces_windows(source, dims):
        return None
    return Op("avgpool" if name in ("mean", "sum") else "maxpool", (), left=_WINDOWS)


def _before_reordering(source: Any, dims: Sequence[int]) -> tuple[Any, Sequence[int]]:
    """What a function that reorders axes reads, and its axes that became ``dims``; the same without one."""
    if not _is_call(source, _REORDERINGS):
        return source, dims
    given, name, before = given_numbers(source), function_name(source.target), source.args[0]
    rank = len(given) if name == "permute" else len(given_numbers(before)) if _is_split(before) else 0
    try:  # an axis of each size tells where each goes
        order = [*getattr(torch.empty(*range(rank), device="meta"), name)(*given).shape]
    except (IndexError, RuntimeError, TypeError):  # axes that are computed, or that there are not
        order = []
    known = all(-len(order) <= dim < len(order) for dim in dims)
    return (before, [order[dim] for dim in dims]) if known else (source, dims)


def _reduces_windows(source: Any, dims: Sequence[int]) -> bool:
    """True if an axis that is reduced has a given length, and seems to be split off the axis before it.

    This is for sequences, ``x.view(n, c, -1, 2)``, and for tokens, ``x.transpose(1, 2).reshape(n, -1, 2, c)``.
    """
    sizes = given_numbers(source) if _is_split(source) else ()
    axes = [dim % len(sizes) for dim in dims] if len(sizes) > 3 else []
    first = 2 if axes and _is_call(source.args[0], _REORDERINGS) else 3
    return any(
        axis >= first
        and type(sizes[axis]) is int
        and sizes[axis] > 1
        and axis - 1 not in axes
        # The size of an axis of the map would mean that the axis is whole.
        and not _is_call(sizes[axis - 1], ("getitem", "size"))
        for axis in axes
    )


def call_select(given: dict[str, Any], _: str) -> Op | None:
    """Read a function that selects one position of an axis."""
    picks = _is_split(given.get("input")) and given.get("dim") not in (0, 1)
    return Op("slice", (), left=_SLICE) if picks else None


def call_part(given: dict[str, Any], _: str) -> Op | None:
    """Read a function that selects a part of an axis, which may be a window that a view makes."""
    picks = _is_split(given.get("input"), whole=True) and given.get("dim", 0) not in (0, 1)
    return Op("slice", (), left=_SLICE) if picks else None


def call_slice(given: dict[str, Any], _: str) -> Op | None:
    """Read a functional slice."""
    step = given.get("step", 1)
    if isinstance(step, int) and step > 1:
        return Op("slice", (step,), left=_SLICE)
    return call_part(given, "")


def _is_split(value: Any, whole: bool = False) -> bool:
    """True for a view that may split an axis into windows, with their positions on an axis of their own.

    Args:
        value: The node that may be the view.
        whole: Count only a view with more axes than a two-dimensional map, as far as the node shows.
    """
    if not _is_call(value, _SPLITS):
        return False
    return not whole or function_name(value.target) == "unflatten" or len(given_numbers(value)) > 4


def given_numbers(view: fx.Node) -> Sequence[Any]:
    """The numbers that a view or a permutation is given."""
    sizes: Any = view.args[1:]
    return sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


def _is_call(value: Any, names: Sequence[str]) -> bool:
    """True for a node that calls a function or method of one of these names."""
    return isinstance(value, fx.Node) and function_name(value.target) in names


def of_getitem(node: fx.Node) -> Op | None:
    """Read an indexing expression, ``x[...]``."""
    source, index = node.args[0], node.args[1] if isinstance(node.args[1], tuple) else node.args[1:]
    if _is_call(source, ("getattr", "size")):  # of a shape
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


def each(value: Any, ndim: int) -> tuple[int, ...] | None:
    """One integer for each axis, or None if they are missing or computed in the graph.

    Torch's ops take NumPy's integers too; here they become Python's.
    """
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * ndim
    if len(values) == 1:
        values *= ndim
    known = len(values) == ndim and all(isinstance(v, numbers.Integral) for v in values)
    return tuple(map(int, values)) if known else None


def named_arguments(node: fx.Node, names: Sequence[str]) -> dict[str, Any]:
    """The arguments of a call by name; ``names`` are those of its positional arguments."""
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}
