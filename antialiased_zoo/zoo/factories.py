"""How a network of the zoo is built: registry -> torchvision's builder -> weights -> the transform."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import torch
from torch import nn

from ..layers import FilterSize, read_filter_size
from ..transform import Options, Shortcut, StemPool, antialias_
from ..weights import Weights, find_weights, manifest
from .registry import ARCHITECTURES, Architecture, add_architecture, find_architecture

logger = logging.getLogger(__name__)


def list_models(pretrained: bool = False) -> list[str]:
    """Names of the zoo's networks.

    Args:
        pretrained: Only those with weights in the manifest.

    Example:
        >>> len(list_models())
        26
    """
    if not pretrained:
        return list(ARCHITECTURES)
    known = {entry.model for entry in manifest.load()}
    return [name for name in ARCHITECTURES if name in known]


def create_model(
    name: str,
    filter_size: FilterSize | None = 4,
    pretrained: bool | str | os.PathLike[str] = False,
    num_classes: int | None = None,
    in_chans: int = 3,
    progress: bool = True,
    *,
    pool_only: bool | None = None,
    memory_format: torch.memory_format | None = None,
    pad_type: str = "reflect",
    wide: bool = False,
    stem_stride: int | None = None,
    shortcut: Shortcut | None = None,
    stem_pool: StemPool | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a network of the zoo: torchvision's, antialiased by `antialias_` as published, with or without weights.

    Args:
        name: One of `list_models()`.
        filter_size: Length of the blur's taps, 1 to 7, or taps of your own, as in `antialias_`; None gives
            torchvision's network untouched.
        pretrained: False; True for the manifest's default weights of this network and filter size (for
            ``filter_size=None`` without any: torchvision's); a recipe's name such as "finetuned", "scratch" or
            "timm_bt"; "torchvision" for the baseline's ImageNet tensors; or the path of a checkpoint.
        num_classes: Size of the head: by default the weights', or 1000. Another size than theirs gives a new head.
        in_chans: Channels of the image. Pretrained first convolutions are folded: summed for one channel, else
            repeated and rescaled.
        progress: Show a bar while weights are downloaded.
        pool_only: The published code's name of the stem switch: True is ``stem_stride=2``, False ``stem_stride=1``.
        memory_format: For example ``torch.channels_last``, the faster layout for most networks.
        pad_type: Padding of the blurs.
        wide: Widen binomial taps for strides above 2, as in `antialias_`; the published weights do without.
        stem_stride: See `antialias_`; 2 by default.
        shortcut: See `antialias_`; the weights' by default, else "blur".
        stem_pool: See `antialias_`; the weights' by default, else the published network's.
        **kwargs: Passed on to torchvision's builder: ``norm_layer``, ``replace_stride_with_dilation``, ``dropout`` ...

    Returns:
        The network, in training mode, on the CPU (or torch's default device).

    Raises:
        ValueError: If the name, an option or the weights' name is unknown; the message lists what there is.
        antialiased_zoo.errors.FetchError: If no source gave a verified file.
        antialiased_zoo.errors.CheckpointError: If the file does not fit the network.

    Warns:
        UserWarning: If the baseline's weights are put into an antialiased network, which then wants fine-tuning.

    Example:
        >>> model = create_model("resnet18", filter_size=3, num_classes=10)
        >>> model.fc.out_features
        10
    """
    architecture = find_architecture(name)
    chosen = {"stem_stride": _stem_stride(stem_stride, pool_only), "shortcut": shortcut, "stem_pool": stem_pool}
    weights = find_weights(name, None if filter_size is None else read_filter_size(filter_size), pretrained)
    structure = {**architecture.structure, **(weights.structure if weights else {})}
    structure |= {"pad_type": pad_type, "wide": wide}
    structure |= {option: value for option, value in chosen.items() if value is not None}
    model = _build(architecture, weights, num_classes, in_chans, progress, kwargs)
    if filter_size is not None:
        antialias_(model, filter_size, **cast(Options, structure))
    return model.to(memory_format=memory_format) if memory_format is not None else model


def _stem_stride(stem_stride: int | None, pool_only: bool | None) -> int | None:
    if pool_only is None:
        return stem_stride
    if stem_stride is not None:
        raise ValueError("pool_only is another name of stem_stride (True: 2, False: 1): give one of the two")
    return 2 if pool_only else 1


def _build(
    architecture: Architecture,
    weights: Weights | None,
    num_classes: int | None,
    in_chans: int,
    progress: bool,
    kwargs: dict[str, Any],
) -> nn.Module:
    """Torchvision's network, not yet antialiased, holding the weights if there are any."""
    for option, value in (("num_classes", num_classes), ("in_chans", in_chans)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{option} must be a positive integer, got {value!r}")
    if weights is None:
        model = architecture.build(num_classes or 1000, **kwargs)
    else:
        with torch.device("meta"):  # no memory and no random numbers for tensors that the file replaces
            size = weights.num_classes or num_classes or 1000
            model = architecture.build(size, **kwargs)
        weights.load_into(model, progress)
        model = model.to(torch.get_default_device())
        if num_classes not in (None, size):
            _renew_head(model, architecture.head, num_classes)
    if in_chans != 3:
        _take_channels(model, in_chans, fold=weights is not None)
    return model


def _renew_head(model: nn.Module, path: str, num_classes: int) -> None:
    old = cast(nn.Linear, model.get_submodule(path))
    logger.info("%s gets a new, untrained head: %d classes in place of %d", path, num_classes, old.out_features)
    model.set_submodule(path, nn.Linear(old.in_features, num_classes, old.bias is not None))


def _take_channels(model: nn.Module, in_chans: int, fold: bool) -> None:
    """Let the first convolution read ``in_chans`` channels, its weight folded from the old one or made anew."""
    conv = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    old = conv.weight.detach()
    conv.in_channels = in_chans
    if not fold:
        conv.weight = nn.Parameter(old.new_empty(len(old), in_chans, *conv.kernel_size))
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    elif in_chans == 1:  # a grey image stands for three equal channels
        conv.weight = nn.Parameter(old.sum(1, keepdim=True))
    else:  # repeat the three in turn, at the same overall strength
        turns = torch.arange(in_chans, device=old.device) % old.shape[1]
        conv.weight = nn.Parameter(old[:, turns] * (old.shape[1] / in_chans))


class Factory(Protocol):
    """A function that builds one network: `create_model` with the name filled in."""

    __name__: str

    def __call__(
        self,
        filter_size: FilterSize | None = 4,
        pretrained: bool | str | os.PathLike[str] = False,
        num_classes: int | None = None,
        in_chans: int = 3,
        progress: bool = True,
        **kwargs: Any,
    ) -> nn.Module:
        """Build the network."""


def register_network(
    name: str,
    *,
    head: str,
    structure: Mapping[str, Any] | None = None,
    builder: Callable[..., nn.Module] | None = None,
) -> Factory:
    """Add a network to the zoo and return its factory.

    Args:
        name: The network's name; torchvision's builder of that name is used unless ``builder`` is given.
        head: Qualified name of the linear layer that gives the classes.
        structure: Options of `antialias_` that make the antialiased network.
        builder: A function ``(num_classes=..., **kwargs)`` that builds the plain network.

    Returns:
        A function that builds the network: `create_model` with the name filled in.

    Raises:
        ValueError: If the name is taken or is no identifier.

    Example:
        >>> register_network("resnet18", head="fc")
        Traceback (most recent call last):
        ValueError: there is a network 'resnet18' already: choose another name
    """
    add_architecture(Architecture(name, head, structure or {}, builder))
    return _factory(name)


def _factory(name: str) -> Factory:
    def build(
        filter_size: FilterSize | None = 4,
        pretrained: bool | str | os.PathLike[str] = False,
        num_classes: int | None = None,
        in_chans: int = 3,
        progress: bool = True,
        **kwargs: Any,
    ) -> nn.Module:
        return create_model(name, filter_size, pretrained, num_classes, in_chans, progress, **kwargs)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"""Antialiased {name}: `create_model` with ``name="{name}"``; its arguments are the same.

    Args:
        filter_size: Length of the blur's taps, 1 to 7 (2, 3, 4, 5: Rect-2, Tri-3, Tri-4, Bin-5), or taps of your own;
            None for no blur.
        pretrained: False, True, a recipe's name, "torchvision", or the path of a checkpoint.
        num_classes: Size of the head; by default the weights', or 1000.
        in_chans: Channels of the image.
        progress: Show a bar while weights are downloaded.
        **kwargs: `create_model`'s other options, and torchvision's keywords for this network.

    Returns:
        The network, ``(N, in_chans, H, W)`` to ``(N, num_classes)``.

    Example:
        >>> model = {name}(filter_size=4)
    """
    return build
