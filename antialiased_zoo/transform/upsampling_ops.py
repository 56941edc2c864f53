"""The ops of a graph that upsample and leave copies of the spectrum behind: seen in the result as a checkerboard."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.conv import _ConvTransposeNd

from .ops import Op

#: The kinds of ops read here: zeros between the pixels and a learned filter; nearest interpolation
#: or a pixel shuffle.
UPSAMPLING = ("convtranspose", "upsample")
_NEAREST = ("nearest", "nearest-exact")
_TRANSPOSED = {F.conv_transpose1d: 1, F.conv_transpose2d: 2, F.conv_transpose3d: 3}


def read_upsampling(node: fx.Node, module: nn.Module | None, ndim: int | None) -> Op | None:
    """Return what a node does if it upsamples other than by linear or cubic interpolation, else None.

    Args:
        node: A node of a traced graph.
        module: The module it calls, if it calls one.
        ndim: Spatial axes of the map it reads, if known.
    """
    if module is not None:
        return read_upsampling_module(module, ndim)
    if node.op != "call_function":
        return None
    if node.target in _TRANSPOSED:
        return _transposed(
            _given(node, ("input", "weight", "bias", "stride")).get("stride", 1), _TRANSPOSED[node.target]
        )
    if node.target is F.pixel_shuffle:
        return _whole(_given(node, ("input", "upscale_factor")).get("upscale_factor"), 2)
    if node.target is F.interpolate:
        given = _given(node, ("input", "size", "scale_factor", "mode"))
        nearest = given.get("mode", "nearest") in _NEAREST and given.get("size") is None
        return _whole(given.get("scale_factor"), ndim) if nearest else None
    return None


def read_upsampling_module(module: nn.Module, ndim: int | None) -> Op | None:
    """Return what a module does if it upsamples other than by linear or cubic interpolation, else None."""
    if isinstance(module, _ConvTransposeNd):
        return Op("convtranspose", module.stride, None, module.in_channels, module.out_channels)
    if isinstance(module, nn.PixelShuffle):
        return _whole(module.upscale_factor, 2)
    if isinstance(module, nn.Upsample) and module.mode in _NEAREST and module.size is None:
        return _whole(module.scale_factor, 2 if isinstance(module, nn.UpsamplingNearest2d) else ndim)
    return None


def _given(node: fx.Node, names: tuple[str, ...]) -> dict[str, Any]:
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _transposed(stride: Any, ndim: int) -> Op:
    strides = tuple(stride) if isinstance(stride, (tuple, list)) else (stride,)
    strides = strides * ndim if len(strides) == 1 else strides
    return Op("convtranspose", strides if all(type(s) is int for s in strides) else ())


def _whole(factor: Any, ndim: int | None) -> Op | None:
    """An op that repeats pixels; its stride is empty where a factor is not whole or the number of axes not known."""
    factors = tuple(factor) if isinstance(factor, (tuple, list)) else (factor,) * (ndim or 1)
    if any(isinstance(f, (int, float)) and f < 1 for f in factors):
        return None
    known = isinstance(factor, (tuple, list)) or ndim is not None
    whole = known and all(isinstance(f, (int, float)) and f == int(f) for f in factors)
    return Op("upsample", tuple(map(int, factors)) if whole else ())
