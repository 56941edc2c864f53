"""Types of the factories' keyword arguments, one TypedDict for each family."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import ParamSpec, Protocol, TypeAlias, TypedDict, cast

import torch
from torch import nn

from ..layers import FilterSize
from ..transform import Shortcut, StemPool
from .backbone import Backbone

Pretrained: TypeAlias = bool | str | os.PathLike[str]
Layer: TypeAlias = Callable[..., nn.Module]


class _DefaultFilterSize(int):
    """The default of 4, distinguishable from a 4 that the caller gives: the weights' filter size overrides it."""


DEFAULT_FILTER_SIZE: int = _DefaultFilterSize(4)


class CommonOptions(TypedDict, total=False):
    """The keyword arguments that every factory takes; `create_model` documents them."""

    pool_only: bool | None
    memory_format: torch.memory_format | None
    pad_type: str | None
    wide: bool | None
    stem_stride: int | None
    shortcut: Shortcut | None
    stem_pool: StemPool | None


class AlexNetOptions(CommonOptions, total=False):
    """Keywords of AlexNet's factory."""

    dropout: float


class VGGOptions(CommonOptions, total=False):
    """Keywords of the VGGs' factories."""

    dropout: float
    init_weights: bool


class ResNetOptions(CommonOptions, total=False):
    """Keywords of the factories of ResNets, ResNeXts and wide ResNets."""

    zero_init_residual: bool
    groups: int
    width_per_group: int
    replace_stride_with_dilation: Sequence[bool] | None
    norm_layer: Layer | None


class DenseNetOptions(CommonOptions, total=False):
    """Keywords of the DenseNets' factories."""

    bn_size: int
    drop_rate: float
    memory_efficient: bool


class MobileNetV2Options(CommonOptions, total=False):
    """Keywords of MobileNetV2's factory."""

    width_mult: float
    inverted_residual_setting: list[list[int]] | None
    round_nearest: int
    block: Layer | None
    norm_layer: Layer | None
    dropout: float


class EfficientNetLiteOptions(CommonOptions, total=False):
    """Keywords of the EfficientNet-Lites' factories."""

    dropout: float
    norm_layer: Layer | None


class BuilderOptions(ResNetOptions, DenseNetOptions, MobileNetV2Options, VGGOptions, total=False):
    """The keywords of all families, which `create_model` accepts."""


_Keywords = ParamSpec("_Keywords")
_Arguments = ParamSpec("_Arguments")


class Factory(Protocol[_Keywords]):
    """A function that builds one network: `create_model` with the name filled in."""

    __name__: str

    def __call__(
        self,
        filter_size: FilterSize | None = DEFAULT_FILTER_SIZE,
        pretrained: Pretrained = False,
        num_classes: int | None = None,
        in_chans: int | None = None,
        progress: bool = True,
        *args: _Keywords.args,
        **kwargs: _Keywords.kwargs,
    ) -> Backbone:
        """Build the network."""


def factories_take(
    keywords: Callable[_Keywords, None],
) -> Callable[[Callable[_Arguments, Factory[...]]], Callable[_Arguments, Factory[_Keywords]]]:
    """A decorator for functions that make factories, so that type checkers know the factories' keywords.

    Args:
        keywords: A function that takes these keywords. (No type variable can stand for a TypedDict's
            keys.)
    """
    return lambda make: cast(Callable[_Arguments, Factory[_Keywords]], make)
