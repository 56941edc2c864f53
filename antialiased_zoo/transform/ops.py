"""The ops of a graph that may stride: what each is and by how much, whether a module or a function does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _MaxPoolNd

from ..layers import Window

Kind = Literal["conv", "maxpool", "avgpool", "adaptive", "slice", "resize", "unshuffle", "convtranspose", "upsample"]

_FUNCTIONS: dict[Any, tuple[Kind, int]] = {
    **{f: ("conv", n) for n, f in enumerate((F.conv1d, F.conv2d, F.conv3d), 1)},
    **{f: ("maxpool", n) for n, f in enumerate((F.max_pool1d, F.max_pool2d, F.max_pool3d), 1)},
    **{f: ("maxpool", n) for n, f in enumerate((torch.max_pool1d, torch.max_pool2d, torch.max_pool3d), 1)},
    **{f: ("avgpool", n) for n, f in enumerate((F.avg_pool1d, F.avg_pool2d, F.avg_pool3d), 1)},
}
_ADAPTIVE = (
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
)


@dataclass(frozen=True)
class Op:
    """One op that may stride.

    Attributes:
        kind: "conv", "maxpool", "avgpool", "adaptive" (a pool to a given size above 1), "slice" (``x[..., ::2, ::2]``),
            "resize" (interpolation that may go downwards) or "unshuffle" (pixels or patches into channels).
        stride: For each spatial axis; empty where it depends on the input's size.
        window: Kernel size, padding and dilation; None for slices and resizing.
        in_channels: Of a convolution, where it is a module.
        out_channels: Of a convolution, where it is a module.
    """

    kind: Kind
    stride: tuple[int, ...]
    window: Window | None = None
    in_channels: int | None = None
    out_channels: int | None = None

    @property
    def strides(self) -> bool:
        """True if it takes, or may take, larger steps than one along some axis."""
        return max(self.stride, default=2) > 1

    @property
    def is_pointwise(self) -> bool:
        """True for a 1x1 convolution without padding, which commutes with a blur."""
        return self.window is not None and max(self.window.size) == 1 and not any(self.window.padding)


def read_op(node: fx.Node, module: nn.Module | None) -> Op | None:
    """Return what a node does if it may stride, else None.

    Args:
        node: A node of a traced graph.
        module: The module it calls, if it calls one.
    """
    if module is not None:
        return read_module(module)
    if node.op != "call_function":
        return None
    if node.target in _FUNCTIONS:
        return _of_function(node, *_FUNCTIONS[node.target])
    if node.target in _ADAPTIVE:
        return _adaptive(_given(node, ("input", "output_size")).get("output_size"))
    if node.target is F.interpolate:
        given = _given(node, ("input", "size", "scale_factor", "mode", "align_corners", "", "antialias"))
        return None if given.get("antialias") else _resize(given.get("size"), given.get("scale_factor"))
    if node.target in (F.pixel_unshuffle, F.unfold):
        names = ("input", "downscale_factor") if node.target is F.pixel_unshuffle else _UNFOLD
        given = _given(node, names)
        return _unshuffle(given.get("downscale_factor", given.get("stride", 1)))
    if getattr(node.target, "__name__", "") == "getitem":
        return _of_getitem(node)
    return None


def read_module(module: nn.Module) -> Op | None:
    """Return what a module does if it may stride, else None."""
    if isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd):
        padding = module.padding if isinstance(module.padding, tuple) else tuple(0 for _ in module.stride)
        window = Window(module.kernel_size, padding, module.dilation)
        return Op("conv", module.stride, window, module.in_channels, module.out_channels)
    if isinstance(module, (_MaxPoolNd, _AvgPoolNd)):
        ndim = int(type(module).__name__[-2]) if type(module).__name__[-2:] in ("1d", "2d", "3d") else 2
        facts = {name: getattr(module, name, default) for name, default in _POOL_DEFAULTS.items()}
        return _pool("maxpool" if isinstance(module, _MaxPoolNd) else "avgpool", ndim, facts)
    if isinstance(module, (_AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd)):
        return _adaptive(module.output_size)
    if isinstance(module, nn.Upsample):
        return _resize(module.size, module.scale_factor)
    if isinstance(module, (nn.PixelUnshuffle, nn.Unfold)):
        return _unshuffle(module.downscale_factor if isinstance(module, nn.PixelUnshuffle) else module.stride)
    return None


def _given(node: fx.Node, names: tuple[str, ...]) -> dict[str, Any]:
    """A call's arguments by name."""
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


_POOL_DEFAULTS: dict[str, Any] = {"kernel_size": 1, "stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}


def _of_function(node: fx.Node, kind: Kind, ndim: int) -> Op | None:
    given = _given(node, _PARAMETERS[kind])
    if kind != "conv":
        return _pool(kind, ndim, {name: given.get(name, default) for name, default in _POOL_DEFAULTS.items()})
    stride, padding, dilation = (_each(given.get(name, default), ndim) for name, default in _CONV_DEFAULTS)
    if stride is None:
        return None
    # The kernel's size is the weight's and not in the graph: 2 stands for "may be larger than 1".
    return Op("conv", stride, Window((2,) * ndim, padding or (0,) * ndim, dilation or (1,) * ndim))


_PARAMETERS: dict[str, tuple[str, ...]] = {
    "conv": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "maxpool": ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "avgpool": ("input", "kernel_size", "stride", "padding", "ceil_mode"),
}
_CONV_DEFAULTS = (("stride", 1), ("padding", 0), ("dilation", 1))
_UNFOLD = ("input", "kernel_size", "dilation", "padding", "stride")


def _pool(kind: Kind, ndim: int, facts: dict[str, Any]) -> Op | None:
    size = _each(facts["kernel_size"], ndim)
    stride = _each(facts["stride"], ndim) or size  # None and () mean the kernel's size
    padding, dilation = _each(facts["padding"], ndim), _each(facts["dilation"], ndim)
    if size is None or stride is None or padding is None or dilation is None:
        return None  # computed in the graph: not known here
    return Op(kind, stride, Window(size, padding, dilation, bool(facts["ceil_mode"])))


def _adaptive(size: Any) -> Op | None:
    """A pool to a given size; to 1 it reads the whole map, and None keeps an axis."""
    sizes = size if isinstance(size, (tuple, list)) else (size,)
    return None if all(n in (1, None) for n in sizes) else Op("adaptive", ())


def _resize(size: Any, factor: Any) -> Op | None:
    factors = factor if isinstance(factor, (tuple, list)) else (factor,)
    if size is not None or not all(isinstance(f, (int, float)) for f in factors):
        return Op("resize", ())  # up or down: known only when it runs
    return Op("resize", tuple(max(1, round(1 / f)) for f in factors)) if min(factors) < 1 else None


def _unshuffle(step: Any) -> Op | None:
    steps = _each(step, 2)
    return None if steps is None else Op("unshuffle", steps)


def _of_getitem(node: fx.Node) -> Op | None:
    index = node.args[1]
    if not isinstance(index, tuple):
        return None
    steps = [part.step for part in index if isinstance(part, slice)]
    known = [step for step in steps if isinstance(step, int)]
    return Op("slice", tuple(known)) if known and max(known) > 1 else None


def _each(value: Any, ndim: int) -> tuple[int, ...] | None:
    """One integer for each axis, or None if there are none or they are computed in the graph."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * ndim
    if len(values) == 1:
        values *= ndim
    return values if len(values) == ndim and all(type(v) is int for v in values) else None
