"""Parts that cannot be traced but are one strided convolution: with "SAME" padding of their own, or with an adapter."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transforming import assert_same_places

import antialiased_zoo as az


class Same(nn.Module):
    """TensorFlow's padding, decided by the map's size as transformers' MobileNets do."""

    def __init__(self, stride: int = 2, act: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(8, 8, 3, stride, groups=2), nn.BatchNorm2d(8), act or nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size, stride, kernel in zip(x.shape[:1:-1], self.conv.stride[::-1], self.conv.kernel_size, strict=True):
            missing = max(kernel - (stride if size % stride == 0 else size % stride), 0)
            pads += [missing // 2, missing - missing // 2]
        return self.act(self.norm(self.conv(F.pad(x, pads))))


class Adapted(nn.Module):
    """A convolution with a low-rank branch; whether the input is cast is decided by its dtype."""

    def __init__(self, conv: nn.Conv2d, rank: int = 2) -> None:
        super().__init__()
        self.conv = conv
        self.down = nn.Conv2d(conv.in_channels, rank, conv.kernel_size, conv.stride, conv.padding, bias=False)
        self.up = nn.Conv2d(rank, conv.out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if x.dtype != self.down.weight.dtype:
            x = x.to(self.down.weight.dtype)
        return y + self.up(self.down(x)) * 0.5

    def merged(self) -> nn.Conv2d:
        merged = copy.deepcopy(self.conv)
        merged.weight.data += 0.5 * torch.einsum("or,rihw->oihw", self.up.weight[..., 0, 0], self.down.weight)
        return merged


class Residual(nn.Module):
    def __init__(self, wrap: Callable[[nn.Conv2d], nn.Module]) -> None:
        super().__init__()
        self.first, self.shortcut = wrap(nn.Conv2d(8, 8, 3, 2, 1)), wrap(nn.Conv2d(8, 8, 1, 2))
        self.act, self.second = nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.second(self.act(self.first(x)))


@pytest.mark.parametrize("stride", [2, 3])
def test_padding_decided_by_the_size(stride: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), Same(stride), Same(1), Same(stride, nn.Identity()), nn.Tanh()).eval()
    inputs = [torch.randn(2, 3, height, width) for height in (20, 21) for width in range(30, 30 + stride)]
    assert_same_places(net, *inputs)
    one, other = az.plan(net).sites
    assert (one.name, str(one.placement), one.reason) == (
        "1.conv",
        "after 1",
        "after the nonlinearity in its own forward",
    )
    assert (other.name, str(other.placement)) == ("3.conv", "after 4")


@pytest.mark.parametrize("graph", [False, True])
def test_an_adapter_is_the_merged_convolution(graph: bool) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(Residual(Adapted), Pools() if graph else nn.Tanh())  # only a graph treats that pool
    merged = copy.deepcopy(net)
    merged[0].first, merged[0].shortcut = merged[0].first.merged(), merged[0].shortcut.merged()
    for x in torch.randn(1, 8, 20, 21), torch.randn(1, 8, 17, 16):
        torch.testing.assert_close(net(x), merged(x), rtol=1e-4, atol=1e-5)
        ours, theirs = (az.antialias(model, 4, stem_stride=1, graph=graph) for model in (net, merged))
        assert isinstance(ours, torch.fx.GraphModule) is graph
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
        assert (theirs(x) - merged(x)).abs().max() > 0.01


class Pools(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2)


class Unsure(Same):
    """Does more than its plan can know, each in its own way."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "by size" and x.shape[2] > 200:
            return super().forward(x).flip(2)
        if self.how == "by value" and x.sum() > 1e9:
            return super().forward(x).flip(2)
        if self.how == "by mode" and self.training:
            return super().forward(x).flip(2)
        if self.how == "by one axis":
            x = x[:, :, : x.shape[2] - x.shape[3] % self.conv.stride[0]]
        y = super().forward(x)
        flips = {
            "flipped": True,
            "if wide": x.shape[3] > x.shape[2],
            "if high": x.shape[3] < x.shape[2],
            "by batch": len(x) > 1,
        }
        return y.flip(2) if flips.get(self.how, False) else y


@pytest.mark.filterwarnings("ignore:nothing in")
@pytest.mark.parametrize(
    "how", ["by size", "by value", "by mode", "flipped", "if wide", "if high", "by batch", "by one axis"]
)
def test_what_is_not_certain_is_left(how: str) -> None:
    (site,) = az.plan(nn.Sequential(nn.Conv2d(3, 8, 1), Unsure(how))).sites
    assert site.reason == "called by code that cannot be traced: what follows it is not known"


def test_a_convolution_that_is_called_elsewhere_too_is_left() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.part = nn.Conv2d(3, 8, 1), Same()

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.part(x).mean() + self.part.conv(x).mean()

    assert not az.plan(Twice()).treated


def test_where_is_asked_about_the_convolutions() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), Same())
    assert [s.name for s in az.plan(net, where=lambda m, name: isinstance(m, nn.Conv2d)).treated] == ["1.conv"]
    assert not az.plan(net, where=lambda m, name: name != "1.conv").treated


class Optional(nn.Module):
    """Takes a flag whose default is None; what follows the part depends on it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.part, self.act = nn.Conv2d(3, 8, 1), Same(act=nn.Identity()), nn.ReLU()

    def forward(self, x: Tensor, linear: bool | None = None) -> Tensor:
        x = self.part(self.first(x))
        if linear is None:
            return self.act(x)
        return x if linear else -self.act(-x)


def test_flags_are_read_as_true_and_as_false() -> None:
    net, x = Optional().eval(), torch.randn(1, 3, 20, 21)
    (site,) = az.plan(net).sites
    assert str(site.placement) == "after part"  # not after the activation, which a true flag leaves out
    for linear in (None, True, False):
        same, blurred = az.antialias(net, 1), az.antialias(net, 4)
        torch.testing.assert_close(same(x, linear), net(x, linear))
        assert blurred(x, linear).shape == net(x, linear).shape


_MASKS: dict[tuple[int, ...], Tensor] = {}
_SEEN: list[Tensor] = []


@functools.lru_cache
def _ones(*size: int) -> Tensor:
    return torch.ones(*size)


class Keeping(Same):
    def forward(self, x: Tensor) -> Tensor:
        size = tuple(x.shape[2:])
        if size not in _MASKS:
            _MASKS[size] = torch.ones(1, 1, *size, device=x.device)
        _SEEN.append(y := super().forward(x * _ones(*size).to(x.device)))
        return y * torch.ones_like(_MASKS[size]).mean()


def test_a_trial_leaves_nothing_in_what_the_code_keeps() -> None:
    _MASKS[1, 1], size = torch.ones(1), _ones.cache_info().currsize
    az.plan(nn.Sequential(nn.Conv2d(3, 8, 1), Keeping()))
    assert list(_MASKS) == [(1, 1)]
    assert not _SEEN
    assert _ones.cache_info().currsize == size


def test_hooks_inside_are_not_run() -> None:
    found: list[Tensor] = []
    net = nn.Sequential(nn.Conv2d(3, 8, 1), Same(), Same())
    net[1].register_forward_hook(lambda *call: found.append(call[-1]))
    net[2].conv.register_forward_hook(lambda *call: found.append(call[-1]))
    assert [site.name for site in az.plan(net).treated] == ["1.conv"]  # the other hook might change the values
    assert not found
