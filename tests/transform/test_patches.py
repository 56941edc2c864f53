"""Convolutions that cut the image into a transformer's patches are left, however much of it can be traced."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

import antialiased_zoo as az


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 8, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.cut(x).flatten(2).transpose(1, 2)


def by_operator(x: Tensor) -> Tensor:
    return F.softmax(x @ x.transpose(1, 2), -1) @ x


def by_function(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x)


def by_none(x: Tensor) -> Tensor:
    return F.relu(x)


class Mixes(nn.Module):
    def __init__(self, mix: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.mix = mix

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x)


class MayBeUntraceable(nn.Module):
    def __init__(self, mix: Callable[[Tensor], Tensor], depends: bool) -> None:
        super().__init__()
        self.depends, self.patches, self.mixes = depends, Patches(), Mixes(mix)

    def forward(self, x: Tensor) -> Tensor:
        if self.depends and x.sum() > 1e9:
            x = x / 2
        return self.mixes(self.patches(x))


@pytest.mark.parametrize("depends", [False, True])
@pytest.mark.parametrize("mix", [by_operator, by_function])
def test_patches_of_a_transformer_are_left(mix: Callable[[Tensor], Tensor], depends: bool) -> None:
    (site,) = az.plan(MayBeUntraceable(mix, depends)).sites
    assert site.reason == "cuts the image into a transformer's patches"


@pytest.mark.parametrize("depends", [False, True])
def test_without_attention_they_are_treated(depends: bool) -> None:
    assert az.plan(MayBeUntraceable(by_none, depends)).treated


def test_patches_of_a_network_of_transformers_are_left() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    (site,) = az.plan(transformers.ViTModel(config)).sites
    assert site.reason == "cuts the image into a transformer's patches"
