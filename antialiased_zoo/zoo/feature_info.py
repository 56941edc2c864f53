"""A network's feature levels: their channels and strides, measured on the meta device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..transform import without_data
from .registry import Layout
from .units import stage_ends, units

_SIZES = (512, 1024)  # the difference gives exact strides: border effects are the same at both sizes


def measure(model: nn.Module, layout: Layout, in_chans: int) -> list[dict[str, Any]]:
    """Channels, stride and module of each level, under timm's keys.

    Example:
        >>> import antialiased_zoo as az
        >>> [level["reduction"] for level in az.resnet18().feature_info]
        [2, 4, 8, 16, 32]
    """
    skeleton = without_data(model).eval()
    small, large = (_shapes(skeleton, layout, (1, in_chans, size, size)) for size in _SIZES)
    grown = _SIZES[1] - _SIZES[0]
    return [
        {"num_chs": large[stage][1], "reduction": grown // (large[stage][2] - small[stage][2]), "module": stage}
        for stage in layout.stages
    ]


def _shapes(skeleton: nn.Module, layout: Layout, size: tuple[int, ...]) -> dict[str, torch.Size]:
    chain = units(skeleton, layout)
    ends = stage_ends(chain, layout)
    shapes = {}
    x = torch.empty(size, device="meta", dtype=next(skeleton.parameters()).dtype)
    with torch.no_grad():
        for name, module in chain:
            x = module(x)
            if name in ends:
                shapes[ends[name]] = x.shape
    return shapes


class FeatureInfo:
    """The maps that a feature extractor returns, with the methods of timm's class that describe them.

    Args:
        levels: One dict for each level of the network: ``num_chs``, ``reduction``, ``module``.
        out_indices: Indices of the returned levels.

    Example:
        >>> FeatureInfo([{"num_chs": 64, "reduction": 4, "module": "layer1"}], (0,)).channels()
        [64]
    """

    def __init__(self, levels: Sequence[dict[str, Any]], out_indices: Sequence[int]) -> None:
        self.info = list(levels)
        self.out_indices = tuple(out_indices)

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Channels of each returned map; ``idx`` chooses levels as in timm."""
        return self._get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Stride of each returned map relative to the image."""
        return self._get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Qualified name of the module that returns each map."""
        return self._get("module", idx)

    def __len__(self) -> int:
        return len(self.info)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.info[index]

    def _get(self, key: str, idx: int | Sequence[int] | None) -> Any:
        if isinstance(idx, int):
            return self.info[idx][key]
        return [self.info[index][key] for index in (self.out_indices if idx is None else idx)]
