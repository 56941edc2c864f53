"""A way to downsample that comes from outside the package."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antialiased_zoo as az


class PolyphaseSample(nn.Module):
    """Keeps, of the four grids with a stride of two, the one with the largest norm (Chaman and Dokmanic, 2021)."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        grids = [x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
        norms = [float(grid.detach().norm()) for grid in grids]  # a value, which no tracer follows
        return grids[norms.index(max(norms))]


class Polyphase(az.Downsampler):
    modules = (PolyphaseSample,)

    def subsample(self, stride: tuple[int, ...], channels: int | None) -> nn.Module:
        assert stride == (2, 2)
        return PolyphaseSample()


@pytest.fixture(autouse=True)
def _registered() -> None:
    az.register_downsampler("polyphase", Polyphase)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    pools = (nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2))
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU(), *pools)


@pytest.mark.parametrize("graph", [False, True])
def test_a_registered_downsampler_takes_every_stride(graph: bool) -> None:
    net, sample, x = network(), PolyphaseSample(), torch.randn(1, 3, 33, 40)
    y = sample(F.conv2d(net[0](x), net[1].weight, net[1].bias, 1, 1).relu())
    y = sample(F.max_pool2d(y, 3, 1, 1))
    y = sample(F.avg_pool2d(y, 2, 1))
    antialiased = az.antialias(net, downsampler="polyphase", graph=graph)
    torch.testing.assert_close(antialiased(x), y)
    assert antialiased(x).shape == net(x).shape
    assert not az.plan(antialiased).treated


def test_its_network_is_another_structure() -> None:
    state = az.antialias(network(), downsampler="polyphase").state_dict()
    with pytest.raises(RuntimeError, match="downsampler='polyphase', here 'blur'"):
        az.antialias(network()).load_state_dict(state)
    az.antialias(network(), downsampler="polyphase").load_state_dict(state)


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        (nn.MaxPool2d(3, 2, ceil_mode=True), {}, "ceil_mode"),
        (nn.AvgPool2d(3, 2, ceil_mode=True), {}, "ceil_mode"),
        (nn.Conv2d(4, 4, 3, 2), {"placement": "before_conv"}, "placement"),
        (nn.Conv2d(4, 4, 3, 2), {"downsampler": "polyfase"}, "blur.*polyphase.*polyfase"),
    ],
)
def test_what_it_lacks_is_an_error_before_anything_changes(layer: nn.Module, options: dict, message: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), layer)
    before = repr(net)
    with pytest.raises(ValueError, match=message):
        az.antialias_(net, **{"downsampler": "polyphase", **options})
    assert repr(net) == before


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="choose another name"):
        az.register_downsampler("blur", Polyphase)
    with pytest.raises(TypeError, match="subclass of Downsampler"):
        az.register_downsampler("mine", PolyphaseSample)
