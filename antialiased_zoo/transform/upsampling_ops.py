"""Readers of the upsampling ops that leave images of the spectrum, visible as a checkerboard pattern."""

from __future__ import annotations

import numbers
from typing import Any

import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.conv import _ConvTransposeNd

from .op_readers import each, named_arguments
from .ops import Op

#: The kinds of ops read here: transposed convolutions; nearest-neighbour interpolation and pixel
#: shuffle.
UPSAMPLING = ("convtranspose", "upsample")
_NEAREST = ("nearest", "nearest-exact")
_TRANSPOSED = {F.conv_transpose1d: 1, F.conv_transpose2d: 2, F.conv_transpose3d: 3}


def read_upsampling(node: fx.Node, module: nn.Module | None, ndim: int | None) -> Op | None:
    """Return the `Op` of a node that upsamples by other than linear or cubic interpolation, else None.

    Args:
        node: A node of a traced graph.
        module: The module that it calls, or None.
        ndim: Number of spatial axes of the map that it reads; None if unknown.
    """
    if module is not None:
        return read_upsampling_module(module, ndim)
    if node.op != "call_function":
        return None
    if node.target in _TRANSPOSED:
        stride = named_arguments(node, ("input", "weight", "bias", "stride")).get("stride", 1)
        return Op("convtranspose", each(stride, _TRANSPOSED[node.target]) or ())
    if node.target is F.pixel_shuffle:
        return _whole(named_arguments(node, ("input", "upscale_factor")).get("upscale_factor"), 2)
    if node.target is F.interpolate:
        given = named_arguments(node, ("input", "size", "scale_factor", "mode"))
        nearest = given.get("mode", "nearest") in _NEAREST and given.get("size") is None
        return _whole(given.get("scale_factor"), ndim) if nearest else None
    return None


def read_upsampling_module(module: nn.Module, ndim: int | None) -> Op | None:
    """Return the `Op` of a module that upsamples by other than linear or cubic interpolation, else None."""
    if isinstance(module, _ConvTransposeNd):
        stride = each(module.stride, len(module.kernel_size)) or ()
        return Op("convtranspose", stride, None, module.in_channels, module.out_channels)
    if isinstance(module, nn.PixelShuffle):
        return _whole(module.upscale_factor, 2)
    if isinstance(module, nn.Upsample) and module.mode in _NEAREST and module.size is None:
        return _whole(module.scale_factor, 2 if isinstance(module, nn.UpsamplingNearest2d) else ndim)
    return None


def _whole(factor: Any, ndim: int | None) -> Op | None:
    """An op that repeats pixels; its stride is empty if a factor is not an integer or the axes are unknown."""
    factors = tuple(factor) if isinstance(factor, (tuple, list)) else (factor,) * (ndim or 1)
    if any(isinstance(f, numbers.Real) and f < 1 for f in factors):
        return None
    known = isinstance(factor, (tuple, list)) or ndim is not None
    whole = known and all(isinstance(f, numbers.Real) and f % 1 == 0 for f in factors)
    return Op("upsample", tuple(map(int, factors)) if whole else ())
