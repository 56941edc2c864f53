"""What the tests of the transform share: a function as a module, and the proof that no blur is misplaced."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import antialiased_zoo as az


class Calls(nn.Module):
    """A function as a module, which `torch.fx` looks into, or does not get through."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def assert_same_places(net: nn.Module, *inputs: Tensor, **options: object) -> None:
    """With filter size 1 a rightly placed blur is the stride itself; with any size the shapes stay."""
    same, blurred = az.antialias(net, 1, kinds=("conv", "maxpool"), **options), az.antialias(net, **options)
    for x in inputs:
        expected = net(x)
        torch.testing.assert_close(same(x), expected, rtol=1e-5, atol=1e-5)
        assert blurred(x).shape == expected.shape
