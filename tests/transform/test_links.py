"""Links: a blur that still hangs on its host is found behind wrappers; transposed convolutions are left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tool_network import IMAGES, Wrapper, network
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import antialiased_zoo as az


def compiled(module: nn.Module) -> nn.Module:
    return torch.compile(module, backend="eager")


@pytest.mark.parametrize("wrap", [compiled, checkpoint_wrapper, Wrapper])
@pytest.mark.parametrize(
    "names", [["block"], ["block.conv", "block.act"], ["branches.act", "branches.one", "branches"]]
)
def test_wrapped_modules_keep_their_blur(wrap: Callable[[nn.Module], nn.Module], names: list[str]) -> None:
    torch.compiler.reset()
    net = az.antialias(network())
    expected = net(IMAGES)
    for name in names:
        parent, _, child = name.rpartition(".")
        setattr(net.get_submodule(parent), child, wrap(net.get_submodule(name)).eval())
    torch.testing.assert_close(net(IMAGES), expected)
    assert not any("no longer in place" in note for note in az.plan(net).notes)


def test_a_module_of_the_same_name_elsewhere_is_not_taken_for_a_lost_one() -> None:
    """The names of a `Sequential` move up when one of its modules is removed."""
    later = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Identity(), nn.Identity(), nn.ReLU())
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), later, nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
    net = az.antialias(net)
    net[2] = nn.Sequential(net[2], net[3])
    del net[3]
    with pytest.raises(az.errors.LostBlurError, match="no longer a module '3'"):
        net(IMAGES)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_transposed_convolution_keeps_its_stride(ndim: int) -> None:
    conv, transposed = (getattr(nn, f"{name}{ndim}d") for name in ("Conv", "ConvTranspose"))

    class Down(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner, self.up = inner, transposed(8, 8, 2, stride=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(self.inner(self.up(x)))

    net = nn.Sequential(conv(3, 8, 3, padding=1), nn.ReLU(), conv(8, 8, 3, 2, 1), nn.ReLU())
    net = az.antialias(net)
    net[2] = Down(conv(8, 8, 3, 2, 1))
    size = net(torch.randn(1, 3, *[16] * ndim)).shape[2:]
    assert net[2].up.stride == (2,) * ndim
    assert size == (16,) * ndim
