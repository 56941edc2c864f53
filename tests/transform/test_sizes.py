"""Code that computes with a map's size gets the size that it got before: no blur goes behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transforming import assert_same_places

import antialiased_zoo as az

# Each gives the same for both sizes of the maps on which the plan tries it.
FACTS: dict[str, Callable[[Tensor], Any]] = {
    "compared": lambda x: x.shape[-1] > 2,
    "divided": lambda x: 1 + x.shape[-1] // 32,
    "shape": lambda x: 1 + (x.shape[2:] == (32, 32)),
    "method": lambda x: x.size(2) != 32,
    "asserted": lambda x: (torch._assert(x.shape[-1] == 32, "not a map of 32 by 32"), 1)[1],
}


class Asks(nn.Module):
    """Computes a number from the map between a strided convolution and its nonlinearity."""

    def __init__(self, fact: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.fact, self.first, self.down, self.act = fact, nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, 2), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(self.first(x))
        fact = self.fact(x)
        return self.act(x) * fact


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS)
def test_what_code_computes_from_a_size_stays(fact: Callable[[Tensor], Any]) -> None:
    net = Asks(fact)
    assert [str(site.placement) for site in az.plan(net).sites] == ["after down"]
    assert_same_places(net, torch.randn(1, 3, 67, 68))


def test_the_number_of_channels_is_no_size() -> None:
    net = Asks(lambda x: x.shape[1] + x.dim() + x.shape[0])
    assert [str(site.placement) for site in az.plan(net).sites] == ["after act"]
    assert_same_places(net, torch.randn(1, 3, 67, 68))
