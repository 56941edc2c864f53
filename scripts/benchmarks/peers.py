"""The other packages, where they are installed; those that are not are left out."""

from __future__ import annotations

import contextlib
import importlib
import io
from typing import Any

import torch
from torch import Tensor, nn

import antialiased_zoo as az

PEER = "antialiased-cnns"
FLOOR = "torchvision"


def peer(name: str) -> Any:
    """An installed package, or None."""
    with contextlib.suppress(ImportError), contextlib.redirect_stdout(io.StringIO()):
        return importlib.import_module(name)
    return None


def peer_network(name: str, filter_size: int = 4) -> nn.Module | None:
    published = peer("antialiased_cnns")
    if published is None:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        return getattr(published, name)(pretrained=False, filter_size=filter_size)


def published_layer(layer: nn.Module, channels: int) -> nn.Module | None:
    published = peer("antialiased_cnns")
    if published is None:
        return None
    blur = published.BlurPool(channels, filt_size=layer.filt_size, stride=2)
    if isinstance(layer, az.Downsample):
        return blur
    window = layer.window
    return nn.Sequential(nn.MaxPool2d(window.size, 1, window.padding), blur)


def layer_peers(layer: nn.Module, channels: int) -> dict[str, nn.Module]:
    """What other packages offer for a layer of ours, with the same filter and stride."""
    pool = None if isinstance(layer, az.Downsample) else layer.window
    found: dict[str, nn.Module | None] = {PEER: published_layer(layer, channels)}
    if kornia := peer("kornia"):
        filters = kornia.filters
        found["kornia"] = filters.MaxBlurPool2D(4, 2, pool.size[0]) if pool else filters.BlurPool2D(4, 2)
    if (timm := peer("timm")) and pool is None:
        found["timm"] = timm.layers.BlurPool2d(channels, 4, 2)
    return {name: module for name, module in found.items() if module is not None}


def works(module: nn.Module, x: Tensor) -> bool:
    """False where a contestant cannot take this input at all."""
    try:
        with torch.inference_mode():
            module(x)
    except RuntimeError:
        return False
    return True
