"""The zoo: which networks there are, the few facts in which families differ, and how one is built."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, cast

import torch
from torch import nn

from . import manifest
from .filters import FilterSize, read_filter_size
from .garbage import collection_postponed
from .piecewise import in_pieces_
from .quicken import quicken_
from .rules import Shortcut, StemPool
from .transform import Options, antialias_
from .weights import Weights, find_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Architecture:
    """One network of the zoo.

    Attributes:
        name: Name of the torchvision builder, and of the factory here.
        head: Qualified name of the linear layer that gives the classes.
        structure: The transform's options that make the published network.
        in_pieces: Whether it is quicker some images at a time (scripts/benchmark.py, "networks").
    """

    name: str
    head: str
    structure: Mapping[str, Any] = field(default_factory=dict, hash=False)
    in_pieces: bool = False


_RESNET = MappingProxyType({"stem_pool": "max2"})
_DENSENET = MappingProxyType({"avg_pool": "blur"})

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        architecture.name: architecture
        for architecture in (
            Architecture("alexnet", "classifier.6"),
            *(
                Architecture(f"vgg{n}{bn}", "classifier.6", in_pieces=True)
                for n in (11, 13, 16, 19)
                for bn in ("", "_bn")
            ),
            *(Architecture(f"resnet{n}", "fc", _RESNET) for n in (18, 34, 50, 101, 152)),
            Architecture("resnext50_32x4d", "fc", _RESNET),
            Architecture("resnext101_32x8d", "fc", _RESNET),
            Architecture("wide_resnet50_2", "fc", _RESNET),
            Architecture("wide_resnet101_2", "fc", _RESNET),
            *(Architecture(f"densenet{n}", "classifier", _DENSENET, in_pieces=True) for n in (121, 161, 169, 201)),
            Architecture("mobilenet_v2", "classifier.1", in_pieces=True),
        )
    }
)


def list_models(pretrained: bool = False) -> list[str]:
    """Names of the zoo's networks.

    Args:
        pretrained: Only those with weights in the manifest.

    Example:
        >>> len(list_models())
        23
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
    with collection_postponed():
        weights = find_weights(name, None if filter_size is None else read_filter_size(filter_size), pretrained)
        structure = {**architecture.structure, **(weights.structure if weights else {})}
        structure |= {"pad_type": pad_type, "wide": wide}
        structure |= {option: value for option, value in chosen.items() if value is not None}
        model = _build(architecture, weights, num_classes, in_chans, progress, kwargs)
        if filter_size is not None:
            quicken_(antialias_(model, filter_size, **cast(Options, structure)))
            if architecture.in_pieces:
                in_pieces_(model)
    return model.to(memory_format=memory_format) if memory_format is not None else model


def find_architecture(name: str) -> Architecture:
    """The zoo's record of a network.

    Raises:
        ValueError: If there is no such network; the message suggests the nearest.
    """
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(str(name).lower().replace("-", "_"), ARCHITECTURES, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(ARCHITECTURES)}"
        raise ValueError(f"there is no network {name!r} in the zoo: {hint} (antialias() takes any model)")
    return ARCHITECTURES[name]


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
    from torchvision.models import get_model

    model: nn.Module
    for option, value in (("num_classes", num_classes), ("in_chans", in_chans)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{option} must be a positive integer, got {value!r}")
    if weights is None:
        model = get_model(architecture.name, weights=None, num_classes=num_classes or 1000, **kwargs)
    else:
        with torch.device("meta"):  # no memory and no random numbers for tensors that the file replaces
            size = weights.num_classes or num_classes or 1000
            model = get_model(architecture.name, weights=None, num_classes=size, **kwargs)
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


alexnet = _factory("alexnet")
vgg11 = _factory("vgg11")
vgg11_bn = _factory("vgg11_bn")
vgg13 = _factory("vgg13")
vgg13_bn = _factory("vgg13_bn")
vgg16 = _factory("vgg16")
vgg16_bn = _factory("vgg16_bn")
vgg19 = _factory("vgg19")
vgg19_bn = _factory("vgg19_bn")
resnet18 = _factory("resnet18")
resnet34 = _factory("resnet34")
resnet50 = _factory("resnet50")
resnet101 = _factory("resnet101")
resnet152 = _factory("resnet152")
resnext50_32x4d = _factory("resnext50_32x4d")
resnext101_32x8d = _factory("resnext101_32x8d")
wide_resnet50_2 = _factory("wide_resnet50_2")
wide_resnet101_2 = _factory("wide_resnet101_2")
densenet121 = _factory("densenet121")
densenet161 = _factory("densenet161")
densenet169 = _factory("densenet169")
densenet201 = _factory("densenet201")
mobilenet_v2 = _factory("mobilenet_v2")
