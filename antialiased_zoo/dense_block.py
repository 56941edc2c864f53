"""DenseNet's dense block and layer, with less to copy."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models.densenet import _DenseBlock, _DenseLayer


class PairwiseDenseBlock(_DenseBlock):  # type: ignore[misc]  # torchvision has no types
    """Torchvision's dense block; in inference and compiled, each layer adds its channels to one map.

    Torchvision's joins all maps again for each layer. A compiler fuses a join of two maps with the norm after it, one
    of twenty it does not; and eager, copying two maps takes less time than copying twenty of the same size in all.
    In training, eager, the gradients of the joins would be added one to the other: that takes longer.

    Example:
        >>> PairwiseDenseBlock(2, 8, bn_size=4, growth_rate=4, drop_rate=0.0)(torch.ones(1, 8, 5, 5)).shape
        torch.Size([1, 16, 5, 5])
    """

    def forward(self, init_features: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, C + layers * growth_rate, H, W)``."""
        in_training = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        # Checkpointed layers keep what they are given: pairwise, that would be every join.
        checkpointed = any(layer.memory_efficient for layer in self.values())
        if in_training or checkpointed or not isinstance(init_features, Tensor):
            return cast(Tensor, super().forward(init_features))
        for layer in self.values():
            init_features = torch.cat([init_features, layer(init_features)], 1)
        return init_features


class DirectDenseLayer(_DenseLayer):  # type: ignore[misc]  # as above
    """Torchvision's dense layer, which takes a map that is alone as it is instead of joining it with nothing.

    Example:
        >>> DirectDenseLayer(8, growth_rate=4, bn_size=4, drop_rate=0.0)(torch.ones(1, 8, 5, 5)).shape
        torch.Size([1, 4, 5, 5])
    """

    def bn_function(self, inputs: list[Tensor]) -> Tensor:
        """The layer's first half, of maps ``(N, C, H, W)`` side by side."""
        alone = isinstance(inputs, list) and len(inputs) == 1  # a tracer's stand-in for a list has no length
        # Batch norm writes elsewhere; the activation after it works in place, and what is not a copy must stay.
        joined = inputs[0] if alone and isinstance(self.norm1, nn.BatchNorm2d) else torch.cat(inputs, 1)
        return cast(Tensor, self.conv1(self.relu1(self.norm1(joined))))
