"""A model of fake tensors is planned and treated as the model itself is."""

from __future__ import annotations

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import antialiased_zoo as az


def network() -> nn.Module:
    stem = (nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(*stem, nn.Conv2d(8, 8, 3, 2, 1), nn.PReLU(8), nn.MaxPool2d(2))


def test_a_model_of_fake_tensors_is_treated_as_the_model_itself() -> None:
    with FakeTensorMode():
        net = network()
        plan = str(az.plan(net))
        assert az.antialias_(net)(torch.randn(1, 3, 32, 32)).shape == (1, 8, 8, 8)
    assert plan == str(az.plan(network()))
