"""DenseNet's dense block in the form that a compiler makes the most of."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torchvision.models.densenet import _DenseBlock


class PairwiseDenseBlock(_DenseBlock):  # type: ignore[misc]  # torchvision has no types
    """Torchvision's dense block; compiled, each layer adds its channels to one map instead of joining all maps again.

    The compiler fuses a join of two maps with the norm after it, one of twenty it does not. Eager, either is as quick.

    Example:
        >>> PairwiseDenseBlock(2, 8, bn_size=4, growth_rate=4, drop_rate=0.0)(torch.ones(1, 8, 5, 5)).shape
        torch.Size([1, 16, 5, 5])
    """

    def forward(self, init_features: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, C + layers * growth_rate, H, W)``."""
        # Checkpointed layers keep what they are given: pairwise, that would be every join.
        if not torch.compiler.is_compiling() or any(layer.memory_efficient for layer in self.values()):
            return cast(Tensor, super().forward(init_features))
        for layer in self.values():
            init_features = torch.cat([init_features, layer(init_features)], 1)
        return init_features
