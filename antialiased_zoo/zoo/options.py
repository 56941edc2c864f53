"""The keywords of the factories, typed: what each family's builder takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypedDict

import torch
from torch import nn
from typing_extensions import Unpack

from ..layers import FilterSize
from ..transform import Shortcut, StemPool
from .backbone import Backbone

Pretrained: TypeAlias = bool | str | os.PathLike[str]
Layer: TypeAlias = Callable[..., nn.Module]


class _DefaultFilterSize(int):
    """4, but distinguishable from a 4 that the caller wrote: weights with another filter may then replace it."""


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
    """And those of torchvision's AlexNet."""

    dropout: float


class VGGOptions(CommonOptions, total=False):
    """And those of torchvision's VGGs."""

    dropout: float
    init_weights: bool


class ResNetOptions(CommonOptions, total=False):
    """And those of torchvision's ResNets, ResNeXts and wide ResNets."""

    zero_init_residual: bool
    groups: int
    width_per_group: int
    replace_stride_with_dilation: Sequence[bool] | None
    norm_layer: Layer | None


class DenseNetOptions(CommonOptions, total=False):
    """And those of torchvision's DenseNets."""

    bn_size: int
    drop_rate: float
    memory_efficient: bool


class MobileNetV2Options(CommonOptions, total=False):
    """And those of torchvision's MobileNetV2."""

    width_mult: float
    inverted_residual_setting: list[list[int]] | None
    round_nearest: int
    block: Layer | None
    norm_layer: Layer | None
    dropout: float


class EfficientNetLiteOptions(CommonOptions, total=False):
    """And those of `efficientnet_lite0` and its like."""

    dropout: float
    norm_layer: Layer | None


class BuilderOptions(ResNetOptions, DenseNetOptions, MobileNetV2Options, VGGOptions, total=False):
    """Every family's keywords: those of `create_model`."""


class Factory(Protocol):
    """A function that builds one network: `create_model` with the name filled in."""

    __name__: str

    def __call__(
        self,
        filter_size: FilterSize | None = DEFAULT_FILTER_SIZE,
        pretrained: Pretrained = False,
        num_classes: int | None = None,
        in_chans: int | None = None,
        progress: bool = True,
        **kwargs: Any,
    ) -> Backbone:
        """Build the network."""


class AlexNetFactory(Protocol):
    """`Factory` with this family's keywords."""

    __name__: str

    def __call__(
        self,
        filter_size: FilterSize | None = DEFAULT_FILTER_SIZE,
        pretrained: Pretrained = False,
        num_classes: int | None = None,
        in_chans: int | None = None,
        progress: bool = True,
        **kwargs: Unpack[AlexNetOptions],
    ) -> Backbone:
        """Build the network."""


class VGGFactory(Protocol):
    """`Factory` with this family's keywords."""

    __name__: str

    def __call__(
        self,
        filter_size: FilterSize | None = DEFAULT_FILTER_SIZE,
        pretrained: Pretrained = False,
        num_classes: int | None = None,
        in_chans: int | None = None,
        progress: bool = True,
        **kwargs: Unpack[VGGOptions],
    ) -> Backbone:
        """Build the network."""


class ResNetFactory(Protocol):
    """`Factory` with this family's keywords."""

    __name__: str

    def __call__(
        self,
        filter_size: FilterSize | None = DEFAULT_FILTER_SIZE,
        pretrained: Pretrained = False,
        num_classes: int | None = None,
        in_chans: int | None = None,
        progress: bool = True,
        **kwargs: Unpack[ResNetOptions],
    ) -> Backbone:
        """Build the network."""


class DenseNetFactory(Protocol):
    """`Factory` with this family's keywords."""

    __name__: str

    def __call__(
        self,
        filter_size: FilterSize | None = DEFAULT_FILTER_SIZE,
        pretrained: Pretrained = False,
        num_classes: int | None = None,
        in_chans: int | None = None,
        progress: bool = True,
        **kwargs: Unpack[DenseNetOptions],
    ) -> Backbone:
        """Build the network."""


class MobileNetV2Factory(Protocol):
    """`Factory` with this family's keywords."""

    __name__: str

    def __call__(
        self,
        filter_size: FilterSize | None = DEFAULT_FILTER_SIZE,
        pretrained: Pretrained = False,
        num_classes: int | None = None,
        in_chans: int | None = None,
        progress: bool = True,
        **kwargs: Unpack[MobileNetV2Options],
    ) -> Backbone:
        """Build the network."""


class EfficientNetLiteFactory(Protocol):
    """`Factory` with this family's keywords."""

    __name__: str

    def __call__(
        self,
        filter_size: FilterSize | None = DEFAULT_FILTER_SIZE,
        pretrained: Pretrained = False,
        num_classes: int | None = None,
        in_chans: int | None = None,
        progress: bool = True,
        **kwargs: Unpack[EfficientNetLiteOptions],
    ) -> Backbone:
        """Build the network."""
