"""Convolutions that cut the image into a transformer's patches are left, however much of it can be traced."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch.nn.functional as F
from torch import Tensor, nn
from transforming import Calls

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


class MixesByModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        return self.weigh(x @ x.transpose(1, 2)) @ x


class Depends(nn.Module):
    """Cannot be traced."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x / 2 if x.sum() > 1e9 else x)


MODELS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "all is traced": lambda mixer: nn.Sequential(Patches(), mixer),
    "all depends": lambda mixer: Depends(nn.Sequential(Patches(), mixer)),
    "patches depend": lambda mixer: nn.Sequential(Depends(Patches()), mixer),
    "mixer depends": lambda mixer: nn.Sequential(Patches(), Depends(mixer)),
    "patches and all depend": lambda mixer: Depends(nn.Sequential(Depends(Patches()), mixer)),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("mixer", [Calls(by_operator), Calls(by_function), MixesByModule()])
def test_patches_of_a_transformer_are_left(mixer: nn.Module, model: Callable[[nn.Module], nn.Module]) -> None:
    (site,) = az.plan(model(mixer)).sites
    assert site.reason == "cuts the image into a transformer's patches"


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_without_attention_they_are_treated(model: Callable[[nn.Module], nn.Module]) -> None:
    assert az.plan(model(Calls(by_none))).treated


def test_patches_of_a_network_of_transformers_are_left() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    (site,) = az.plan(transformers.ViTModel(config)).sites
    assert site.reason == "cuts the image into a transformer's patches"
