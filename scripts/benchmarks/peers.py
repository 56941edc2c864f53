"""Other packages with blur layers, if they are installed."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Mapping
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


def peer_network(name: str) -> nn.Module | None:
    published = peer("antialiased_cnns")
    if published is None:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        return getattr(published, name)(pretrained=False, filter_size=4)


def layer_peer(name: str, layer: nn.Module, channels: int) -> nn.Module | None:
    """Another package's layer for one of ours, with the same filter and stride; None if it has none."""
    package = peer(name.replace("-", "_"))
    return None if package is None else LAYER_PEERS[name](package, layer, channels)


def _published(package: Any, layer: nn.Module, channels: int) -> nn.Module:
    blur = package.BlurPool(channels, filt_size=layer.filt_size, stride=2)
    if isinstance(layer, az.Downsample):
        return blur
    return nn.Sequential(nn.MaxPool2d(layer.window.size, 1, layer.window.padding), blur)


def _kornia(package: Any, layer: nn.Module, channels: int) -> nn.Module:
    filters = package.filters
    plain = isinstance(layer, az.Downsample)
    return filters.BlurPool2D(4, 2) if plain else filters.MaxBlurPool2D(4, 2, layer.window.size[0])


def _timm(package: Any, layer: nn.Module, channels: int) -> nn.Module | None:
    return package.layers.BlurPool2d(channels, 4, 2) if isinstance(layer, az.Downsample) else None


LAYER_PEERS: Mapping[str, Callable[[Any, nn.Module, int], nn.Module | None]] = {
    PEER: _published,
    "kornia": _kornia,
    "timm": _timm,
}


def works(module: nn.Module, x: Tensor) -> bool:
    """False if a contestant does not support the input."""
    try:
        with torch.inference_mode():
            module(x)
    except RuntimeError:
        return False
    return True
