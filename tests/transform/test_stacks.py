"""What holds of every stack of layers, on random ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import antialiased_zoo as az

MAKERS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(4, 4, 3, padding=1),
    "strided": lambda: nn.Conv2d(4, 4, 3, 2, 1),
    "pair": lambda: nn.Conv2d(4, 4, (3, 5), (1, 2), 2, groups=2, padding_mode="circular"),
    "dilated": lambda: nn.Conv2d(4, 4, 3, 2, 2, dilation=2, groups=4),
    "pointwise": lambda: nn.Conv2d(4, 4, 1, 2),
    "relu": nn.ReLU,
    "silu": lambda: nn.SiLU(inplace=True),
    "norm": lambda: nn.BatchNorm2d(4),
    "group": lambda: nn.GroupNorm(2, 4),
    "max": lambda: nn.MaxPool2d(2, ceil_mode=True),
    "max3": lambda: nn.MaxPool2d(3, 2, 1),
    "avg": lambda: nn.AvgPool2d(3, 2, 1),
    "residual": lambda: Residual(),
}


class Residual(nn.Module):
    """A block that subsamples on two paths, which must keep fitting."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(4, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU()
        self.out, self.shortcut = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.out(self.relu(self.norm(self.conv(x)))) + self.shortcut(x))


@settings(max_examples=30, deadline=None)
@given(
    layers=st.lists(st.sampled_from(list(MAKERS)), min_size=1, max_size=5),
    graph=st.booleans(),
    height=st.integers(40, 71),
    width=st.integers(40, 71),
)
def test_random_stacks(layers: list[str], graph: bool, height: int, width: int) -> None:
    """Shapes and parameters stay, filter size 1 changes nothing, and a second call finds nothing to do."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), *(MAKERS[layer]() for layer in layers)).eval()
    parameters, x = list(net.parameters()), torch.randn(1, 3, height, width)
    output = net(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing may stride
        mine = az.antialias(net, graph=graph)
        same = az.antialias(net, 1, kinds=("conv", "maxpool"), graph=graph)
        before = repr(mine)
        assert repr(az.antialias_(mine)) == before
        keys = list(net.state_dict())
        az.antialias_(net)
    assert mine(x).shape == output.shape
    torch.testing.assert_close(same(x), output, rtol=1e-5, atol=1e-5)
    assert list(mine.state_dict()) == list(net.state_dict()) == keys
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    torch.testing.assert_close(net(x), mine(x))
