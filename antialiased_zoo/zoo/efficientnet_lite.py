"""EfficientNet-Lite: torchvision's MobileNetV2 with other stages, 5x5 kernels and TensorFlow's padding.

Source: Google, "EfficientNet-Lite" (tensorflow/tpu, 2020): EfficientNet (Tan and Le, 2019) without
squeeze-and-excitation, with ReLU6, and with a stem and a head of fixed size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torchvision.models.mobilenetv2 import MobileNetV2

from ..layers import SamePadConv2d

# Kernel size, and MobileNetV2's four settings: expansion, channels, blocks, stride.
_STAGES = (
    (3, (1, 16, 1, 1)),
    (3, (6, 24, 2, 2)),
    (5, (6, 40, 2, 2)),
    (3, (6, 80, 3, 2)),
    (5, (6, 112, 3, 1)),
    (5, (6, 192, 4, 2)),
    (3, (6, 320, 1, 1)),
)
_NORM = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)


def _efficientnet_lite(
    width: float,
    depth: float,
    num_classes: int,
    dropout: float,
    norm_layer: Callable[..., nn.Module],
) -> nn.Module:
    grow = [1.0, *[depth] * (len(_STAGES) - 2), 1.0]
    stages = [
        (kernel, [expansion, _rounded(channels * width), math.ceil(blocks * times), stride])
        for (kernel, (expansion, channels, blocks, stride)), times in zip(_STAGES, grow, strict=True)
    ]
    model: Any = MobileNetV2(
        num_classes=num_classes,
        inverted_residual_setting=[facts for _, facts in stages],
        norm_layer=norm_layer,
        dropout=dropout,
    )
    stem, *blocks, _ = model.features
    kernels = [kernel for kernel, (_, _, count, _) in stages for _ in range(int(count))]
    for unit, kernel in zip((stem, *(block.conv[-3] for block in blocks)), (3, *kernels), strict=True):
        unit[0] = _same_padded(unit[0], kernel)
    network: nn.Module = model
    return network


def _same_padded(conv: nn.Conv2d, kernel: int) -> SamePadConv2d:
    same = SamePadConv2d(conv.in_channels, conv.out_channels, kernel, conv.stride[0], groups=conv.groups, bias=False)
    nn.init.kaiming_normal_(same.weight, mode="fan_out")  # as in MobileNetV2
    return same


def _rounded(channels: float) -> int:
    """The nearest multiple of 8 that is at least 0.9 times ``channels``."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


def efficientnet_lite0(
    num_classes: int = 1000, dropout: float = 0.2, norm_layer: Callable[..., nn.Module] = _NORM
) -> nn.Module:
    """Build EfficientNet-Lite0, designed for images of 224 pixels, without weights.

    Args:
        num_classes: Size of the head.
        dropout: Dropout rate of the head.
        norm_layer: Creates a norm for a number of channels.

    Example:
        >>> sum(parameter.numel() for parameter in efficientnet_lite0().parameters())
        4652008
    """
    return _efficientnet_lite(1.0, 1.0, num_classes, dropout, norm_layer)


def efficientnet_lite1(
    num_classes: int = 1000, dropout: float = 0.2, norm_layer: Callable[..., nn.Module] = _NORM
) -> nn.Module:
    """Build EfficientNet-Lite1, designed for images of 240 pixels; see `efficientnet_lite0`."""
    return _efficientnet_lite(1.0, 1.1, num_classes, dropout, norm_layer)


def efficientnet_lite2(
    num_classes: int = 1000, dropout: float = 0.3, norm_layer: Callable[..., nn.Module] = _NORM
) -> nn.Module:
    """Build EfficientNet-Lite2, designed for images of 260 pixels; see `efficientnet_lite0`."""
    return _efficientnet_lite(1.1, 1.2, num_classes, dropout, norm_layer)
