"""Feature maps for detection, segmentation and other dense tasks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from ..transform import take_links
from .feature_info import FeatureInfo
from .registry import Layout
from .units import containers, stage_ends, units


class FeatureMaps(nn.Module):
    """A network that returns its feature maps at several resolutions.

    Its tensors keep the network's names; layers after the last returned map are left out.

    Args:
        network: A `Backbone`; its modules are shared, not copied.
        out_indices: The levels to return, in ascending order; negative ones count from the last.
            Default: all.
        out_map: A name for each returned level; the result is then a dict.

    Attributes:
        feature_info: `FeatureInfo` of the maps: ``channels()``, ``reduction()``.

    Raises:
        ValueError: If the network's stages are unknown, or an index is out of range.

    Example:
        >>> import torch
        >>> import antialiased_zoo as az
        >>> maps = az.create_model("resnet18", features_only=True, out_indices=(1, 2, 3, 4))
        >>> maps.feature_info.channels(), maps.feature_info.reduction()
        ([64, 128, 256, 512], [4, 8, 16, 32])
        >>> [tuple(x.shape) for x in maps(torch.zeros(1, 3, 64, 64))][0]
        (1, 64, 16, 16)
    """

    def __init__(
        self, network: nn.Module, out_indices: Sequence[int] | None = None, out_map: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        layout: Layout | None = getattr(network, "layout", None)
        if layout is None or not layout.stages:
            raise ValueError(f"the stages of {type(network).__name__} are unknown: pass them to register_network()")
        levels = cast(list[dict[str, Any]], network.feature_info)
        indices = _indices(out_indices, len(levels))
        self.feature_info = FeatureInfo(levels, indices)
        chain = units(network, layout)
        ends = stage_ends(chain, layout)
        wanted = [levels[index]["module"] for index in indices]
        last = max(at for at, (name, _) in enumerate(chain) if ends.get(name) in wanted)
        self._chain = [name for name, _ in chain[: last + 1]]
        self._names = {name: stage for name, stage in ends.items() if stage in wanted}
        self._activation = layout.body_activation if last == len(chain) - 1 else None
        if out_map is not None and len(set(out_map)) != len(wanted):
            raise ValueError(f"out_map must name {len(wanted)} maps, got {out_map!r}")
        self._keys = None if out_map is None else list(out_map)
        self._adopt(network, layout)

    def _adopt(self, network: nn.Module, layout: Layout) -> None:
        """Register the units under their own names."""
        for name in self._chain:
            *path, last = name.split(".")
            parent: nn.Module = self
            for part in path:
                if not hasattr(parent, part):
                    parent.add_module(part, nn.Sequential())
                parent = parent.get_submodule(part)
            parent.add_module(last, network.get_submodule(name))
        for name, container in containers(network, layout):
            take_links(self, container, name)
        self.train(network.training)

    def __prepare_scriptable__(self) -> FeatureMaps:
        """Called by `torch.jit.script`, which cannot compile a loop over modules found by name."""
        raise ValueError(
            "torch.jit.script does not support feature maps: use torch.jit.trace or torch.export; for a detector to "
            "script, apply antialias_() to torchvision's resnet_fpn_backbone() or mobilenet_backbone()"
        )

    def forward(self, x: Tensor) -> list[Tensor] | OrderedDict[str, Tensor]:
        """Compute the maps ``(N, channels, H / reduction, W / reduction)`` of images ``(N, in_chans, H, W)``."""
        maps = []
        for name in self._chain:
            x = self.get_submodule(name)(x)
            if name in self._names:
                maps.append(x)
        if self._activation is not None:
            maps[-1] = self._activation(maps[-1])
        return maps if self._keys is None else OrderedDict(zip(self._keys, maps, strict=True))


def _indices(given: Sequence[int] | None, count: int) -> tuple[int, ...]:
    chosen = range(count) if given is None else given
    if isinstance(chosen, int) or not chosen or not all(-count <= index < count for index in chosen):
        raise ValueError(f"out_indices must be integers from 0 to {count - 1} (or -{count} to -1), got {given!r}")
    indices = tuple(index % count for index in chosen)
    if list(indices) != sorted(set(indices)):
        raise ValueError(f"out_indices must be in ascending order, got {given!r}")
    return indices
