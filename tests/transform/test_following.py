"""How far a convolution's output is followed: to its nonlinearity, through what keeps places, along branches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transforming import Calls, assert_same_places

import antialiased_zoo as az

MASK = torch.rand(10, 12)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.relu(x - x.mean((2, 3), keepdim=True)),
        lambda x: F.relu(x.roll(1, 2)),
        lambda x: F.relu(x.flip(3)),
        lambda x: F.relu(F.avg_pool2d(x, 3, 1, 1)),
        lambda x: F.relu(x.transpose(2, 3)),
        lambda x: F.relu(x * torch.linspace(0, 1, x.shape[-1])),
        lambda x: F.relu(x * MASK),
        lambda x: F.relu(x + x.cumsum(2)),
    ],
)
def test_what_does_not_keep_places_is_not_waited_for(function: Callable[[Tensor], Tensor]) -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), Calls(function), nn.Conv2d(4, 3, 1))
    assert str(az.plan(net, stem_stride=1).sites[0].placement) == "after 0"
    x = torch.randn(1, 4, 20, 24)
    torch.testing.assert_close(az.antialias(net, 1, stem_stride=1)(x), net(x))


def test_a_matrix_product_is_no_gate() -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 4, 3, 2, 1), Calls(lambda x: torch.matmul(x, torch.sigmoid(x))), nn.Conv2d(4, 3, 1)
    )
    x = torch.randn(1, 4, 20, 20)
    torch.testing.assert_close(az.antialias(net, 1, stem_stride=1)(x), net(x))


@pytest.mark.parametrize(
    ("equation", "place"), [("nchw,c->nchw", "after 3"), ("...,...->...", "after 3"), ("nchw,dc->ndhw", "after 1")]
)
def test_an_einsum_that_only_multiplies_is_followed(equation: str, place: str) -> None:
    factors = torch.rand((4, 4) if "d" in equation else (4,) if "c" in equation else (1, 4, 1, 1))
    scale = Calls(lambda x: torch.einsum(equation, x, factors))
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), scale, nn.ReLU())
    assert str(az.plan(net).sites[0].placement) == place


def test_a_reason_names_what_does_not_keep_places() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), Calls(lambda x: torch.roll(x, 1, 2)), nn.ReLU())
    assert "cannot be followed through roll" in az.plan(net).sites[0].reason


def test_a_layer_norm_over_a_map_sees_the_subsampled_map() -> None:
    net = nn.Sequential(nn.Conv2d(8, 16, 4, 2, 1), nn.LayerNorm([16, 16, 16]), nn.LeakyReLU(0.2))
    x = torch.randn(2, 8, 32, 32)
    torch.testing.assert_close(az.antialias(net, 1, stem_stride=1)(x), net(x))


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 4), nn.InstanceNorm2d(4)])
def test_a_norm_of_the_maps_own_statistics_sees_the_subsampled_map(norm: nn.Module) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), norm, nn.ReLU()).eval()
    (site,) = az.plan(net).sites
    assert str(site.placement) == "after 1"
    assert "statistics" in site.reason
    assert_same_places(net, torch.randn(1, 3, 33, 40))


def test_a_batch_norm_with_a_forward_of_its_own_is_tried_out() -> None:
    class Centred(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) - x.mean((2, 3), keepdim=True)

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), Centred(4), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()
    x = torch.randn(1, 3, 33, 34)
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))


def test_a_branch_with_a_nonlinearity_of_its_own_has_a_blur_of_its_own() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU())
            self.two, self.after = nn.Conv2d(4, 4, 1, 2), nn.SiLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.after(self.one(x) + self.two(x))

    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), Sum(), nn.Conv2d(4, 3, 1)), torch.randn(1, 3, 33, 34)
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))
    torch.testing.assert_close(az.antialias(net, 1, graph=True)(x), net(x))


def test_branches_share_one_blur_in_a_graph_too() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 1, 2)

        def forward(self, x: Tensor) -> Tensor:
            return F.max_pool2d(F.relu(self.one(x) + self.two(x)), 2)

    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), Sum(), nn.Conv2d(4, 3, 1)), torch.randn(1, 3, 33, 34)
    mine = az.antialias(net, graph=True)
    assert mine(x).shape == net(x).shape
    torch.testing.assert_close(az.antialias(net, 1, graph=True)(x), net(x))
