"""Backbones with a feature pyramid, for torchvision's detectors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool
from typing_extensions import Unpack

from ..layers import FilterSize
from .factories import create_model
from .features import FeatureMaps
from .options import DEFAULT_FILTER_SIZE, BuilderOptions, Pretrained


class BackboneWithFPN(nn.Module):
    """Feature maps with a feature pyramid network (FPN), as torchvision's detectors expect.

    Attributes:
        body: The `FeatureMaps`, with names "0", "1", ...
        fpn: torchvision's `FeaturePyramidNetwork`.
        out_channels: Channels of every map of the pyramid.
    """

    def __init__(self, body: FeatureMaps, out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None) -> None:
        super().__init__()
        self.body = body
        self.out_channels = out_channels
        extra = LastLevelMaxPool() if extra_blocks is None else extra_blocks
        self.fpn = FeaturePyramidNetwork(body.feature_info.channels(), out_channels, extra)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Compute maps ``(N, out_channels, H', W')`` by name, from fine to coarse."""
        maps: OrderedDict[str, Tensor] = self.fpn(self.body(x))
        return maps


def backbone_with_fpn(
    name: str,
    filter_size: FilterSize | None = DEFAULT_FILTER_SIZE,
    pretrained: Pretrained = False,
    *,
    out_indices: Sequence[int] = (-4, -3, -2, -1),
    out_channels: int = 256,
    extra_blocks: ExtraFPNBlock | None = None,
    **options: Unpack[BuilderOptions],
) -> BackboneWithFPN:
    """A network of the zoo with a feature pyramid: the ``backbone`` of torchvision's detectors.

    Args:
        name: See `create_model`.
        filter_size: See `create_model`.
        pretrained: See `create_model`.
        out_indices: Levels that the pyramid reads. Default: the last four.
        out_channels: Channels of the pyramid's maps.
        extra_blocks: Makes further, coarser maps. Default: torchvision's ``LastLevelMaxPool``.
        **options: See `create_model`.

    Returns:
        A module with the attribute ``out_channels``, from ``(N, 3, H, W)`` to a dict of maps.

    Example:
        >>> import torch
        >>> backbone = backbone_with_fpn("resnet18")
        >>> list(backbone(torch.zeros(1, 3, 64, 64)))
        ['0', '1', '2', '3', 'pool']
    """
    keys = [str(index) for index in range(len(out_indices))]
    body = create_model(
        name, filter_size, pretrained, features_only=True, out_indices=out_indices, out_map=keys, **options
    )
    return BackboneWithFPN(body, out_channels, extra_blocks)
