"""The two ends of a network, which fine-tuning replaces: the last linear layer and the first convolution."""

from __future__ import annotations

import contextlib
import logging
import operator
from typing import Any

import torch
from torch import nn

logger = logging.getLogger(__name__)


def find_head(model: nn.Module, path: str) -> nn.Module:
    """The module at a head's path, or the module that has replaced its container."""
    try:
        return model.get_submodule(path)
    except AttributeError:
        return model.get_submodule(path.partition(".")[0])


def head_sizes(head: nn.Module) -> tuple[int, int]:
    """Number of input features and of classes of a head; zeros if there is none."""
    weight = getattr(head, "weight", None)
    return (weight.shape[1], weight.shape[0]) if isinstance(weight, torch.Tensor) else (0, 0)


def renew_head(model: nn.Module, path: str, in_features: int, num_classes: int) -> None:
    """Replace the head by a new linear layer, or by an identity for ``num_classes=0``.

    Raises:
        ValueError: If the head's container was replaced. The network is then unchanged.
    """
    try:
        old = model.get_submodule(path)
    except AttributeError:
        raise ValueError(f"the module that held {path!r} was replaced: assign the new head yourself") from None
    like = next(iter(old.parameters()), None)
    like = next(model.parameters()) if like is None else like
    new: nn.Module = nn.Identity()
    if num_classes:
        bias = getattr(old, "bias", True) is not None
        new = nn.Linear(in_features, num_classes, bias)
        if isinstance(old, nn.Conv2d):  # as in SqueezeNet
            new = nn.Conv2d(in_features, num_classes, 1, bias=bias)
        new = new.to(device=like.device, dtype=like.dtype)
    model.set_submodule(path, new.train(model.training))


def first_conv(model: nn.Module) -> tuple[str, nn.Conv2d]:
    """The convolution that reads the image, with its name."""
    return next((name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d))


def fit_ends(model: nn.Module, head: str, num_classes: int, in_chans: int) -> None:
    """Give a network on the meta device a head and a first convolution with the shapes of a file's tensors."""
    width, classes = head_sizes(model.get_submodule(head))
    if classes != num_classes:
        renew_head(model, head, width, num_classes)
    _, conv = first_conv(model)
    if conv.in_channels != in_chans:
        conv.in_channels = in_chans
        conv.weight = nn.Parameter(conv.weight.new_empty(conv.out_channels, in_chans, *conv.kernel_size))


def set_in_channels(model: nn.Module, in_chans: int, fold: bool) -> None:
    """Rebuild the first convolution for ``in_chans`` channels, with a new weight or (``fold``) the old one adapted."""
    _, conv = first_conv(model)
    old = conv.weight.detach()
    conv.in_channels = in_chans
    if not fold:
        conv.weight = nn.Parameter(old.new_empty(len(old), in_chans, *conv.kernel_size))
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    elif in_chans == 1:  # a greyscale image is treated as one with equal channels
        conv.weight = nn.Parameter(old.sum(1, keepdim=True))
    else:  # repeat the channels cyclically, with the same total weight
        turns = torch.arange(in_chans, device=old.device) % old.shape[1]
        conv.weight = nn.Parameter(old[:, turns] * (old.shape[1] / in_chans))


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Return an integer of at least ``least``, also a NumPy one, as an ``int``.

    Raises:
        ValueError: If it is not one.
    """
    number = None
    with contextlib.suppress(TypeError):
        number = None if isinstance(value, bool) else operator.index(value)
    if number is None or number < least:
        raise ValueError(f"{name} must be {'a positive' if least else 'a non-negative'} integer, got {value!r}")
    return number
