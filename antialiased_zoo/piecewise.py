"""Sequences that take a large batch some images at a time, so that the maps between modules stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AvgPoolNd, _MaxPoolNd

from .dataflow import ACTIVATIONS
from .layers import Blurred
from .tensors import is_plain_cpu, layout_of
from .transform import BLUR_HOOKS

_Model = TypeVar("_Model", bound=nn.Module)

# In bytes. Smaller inputs do not pay for looking at the modules, smaller maps (a stretch's widest) stay in the cache.
_SMALL_INPUT = 1 << 19
_SMALL_MAP = 8 << 20
_PIECE = 8 << 20  # the widest map of one piece

_POOLS = (_MaxPoolNd, _AvgPoolNd, _AdaptiveAvgPoolNd)
# What computes each image by itself, in evaluation.
_PER_IMAGE = (Blurred, _ConvNd, _BatchNorm, nn.GroupNorm, _DropoutNd, nn.Identity, *_POOLS, *ACTIVATIONS)


class PiecewiseSequential(nn.Sequential):
    """`nn.Sequential`, quicker for large batches: in inference on a CPU, each stretch goes some images at a time.

    A stretch ends with a module that blurs. Before it the maps are dense, so that a whole batch of each is tens of
    megabytes of fresh memory; networks of little arithmetic (depthwise convolutions, norms) wait for that most. In
    training, while gradients are recorded, under a compiler or a tracer, with hooks of one's own on a module, or with
    a module inside that may mix images, it is plain `nn.Sequential`.

    Example:
        >>> from antialiased_zoo import Downsample
        >>> model = PiecewiseSequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), Downsample()).eval()
        >>> with torch.inference_mode():
        ...     model(torch.ones(8, 3, 256, 256)).shape
        torch.Size([8, 64, 128, 128])
    """

    def forward(self, input: Any) -> Any:
        """The modules' result, one after the other."""
        if not (_is_large(input) and not torch.is_grad_enabled() and _goes_image_by_image(self)):
            return super().forward(input)  # type: ignore[no-untyped-call]  # as torch has it
        for stretch in _stretches(self):
            input = _run(stretch, input)
        return input


def in_pieces_(model: _Model) -> _Model:
    """Make each outermost `nn.Sequential` inside a model that blurs a `PiecewiseSequential`; names and tensors stay.

    Args:
        model: An antialiased network.

    Returns:
        The same model.

    Example:
        >>> import antialiased_zoo as az
        >>> model = az.antialias(nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2)), nn.Flatten()))
        >>> type(in_pieces_(model)[0]).__name__
        'PiecewiseSequential'
    """
    for module in model.children():
        if type(module) is nn.Sequential and _blurs(module):
            module.__class__ = PiecewiseSequential
        else:
            in_pieces_(module)
    return model


def _is_large(x: Any) -> bool:
    if not isinstance(x, Tensor) or not is_plain_cpu(x):
        return False
    return x.dim() == 4 and len(x) > 1 and x.numel() * x.element_size() >= _SMALL_INPUT


def _goes_image_by_image(sequence: nn.Module) -> bool:
    if module_hooks._has_any_global_hook():  # type: ignore[no-untyped-call]  # as above
        return False
    for module in sequence.modules():
        hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
        if module.training or any(hook not in BLUR_HOOKS for hook in hooks):
            return False
        if isinstance(module, _BatchNorm) and module.running_mean is None:  # takes the batch's statistics
            return False
        if not isinstance(module, _PER_IMAGE) and not module._modules:
            return False
    return True


def _blurs(module: nn.Module) -> bool:
    return any(isinstance(inner, Blurred) for inner in module.modules())


def _stretches(modules: Iterable[nn.Module]) -> Iterator[list[nn.Module]]:
    stretch: list[nn.Module] = []
    for module in modules:
        stretch.append(module)
        if _blurs(module):
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _run(stretch: Sequence[nn.Module], x: Tensor) -> Tensor:
    image = _widest(stretch, x) * x.element_size()
    images = max(1, int(_PIECE // image))
    if image * len(x) < _SMALL_MAP or images >= len(x):
        return _chain(stretch, x)
    first = _chain(stretch, x[:images])
    shape = (len(x), *first.shape[1:])
    out = torch.empty(shape, dtype=first.dtype, memory_format=layout_of(first))
    out[:images] = first
    for start in range(images, len(x), images):
        part = slice(start, start + images)
        out[part] = _chain(stretch, x[part])
    return out


def _chain(modules: Iterable[nn.Module], x: Tensor) -> Tensor:
    for module in modules:
        x = module(x)
    return x


def _widest(stretch: Iterable[nn.Module], x: Tensor) -> float:
    """Values of an image's largest map, about: what the modules say of channels and strides, in their order."""
    area: float = math.prod(x.shape[2:])
    widest = x.shape[1] * area
    for module in (inner for outer in stretch for inner in outer.modules()):
        if isinstance(module, _ConvNd):
            area /= math.prod(module.stride)
            widest = max(widest, module.out_channels * area)
        elif isinstance(module, _BatchNorm):
            widest = max(widest, module.num_features * area)
        elif isinstance(module, Blurred):
            area /= math.prod(module.blur.stride)
    return widest
