"""Models that ask what a pool is or how a convolution strides, and what stays as it was for them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antialiased_zoo as az


class Collects(nn.Module):
    """Keeps the map before each pool, as the encoders of many segmentation networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(
            *(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, 2), nn.ReLU(), nn.AvgPool2d(2))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        kept = []
        for part in self.parts:
            if self.is_pool(part):
                kept.append(x)
            x = part(x)
        return [*kept, x]

    def is_pool(self, part: nn.Module) -> bool:
        return isinstance(part, (nn.MaxPool2d, nn.AvgPool2d))


@functools.singledispatch
def dispatched(_: nn.Module) -> bool:
    return False


@dispatched.register(nn.MaxPool2d)
@dispatched.register(nn.AvgPool2d)
def _(_: nn.Module) -> bool:
    return True


class Visitor:
    def visit(self, part: nn.Module) -> bool:
        return bool(getattr(self, f"visit_{type(part).__name__.lower()}", lambda: False)())

    def visit_maxpool2d(self) -> bool:
        return True

    visit_avgpool2d = visit_maxpool2d


def strides_by_two(part: nn.Module) -> bool:
    return getattr(part, "kernel_size", 3) in (2, (2, 2)) and part.stride in (2, (2, 2))


# Helpers of no class's own code: what they ask of a module is not in the forward that calls them.
ASKS: dict[str, Callable[[nn.Module], bool]] = {
    "isinstance": lambda part: isinstance(part, (nn.MaxPool2d, nn.AvgPool2d)),
    "type": lambda part: type(part) in (nn.MaxPool2d, nn.AvgPool2d),
    "class": lambda part: part.__class__ is nn.MaxPool2d or part.__class__ is nn.AvgPool2d,
    "class name": lambda part: part.__class__.__name__.endswith("Pool2d"),
    "table": lambda part: {nn.MaxPool2d: True, nn.AvgPool2d: True}.get(type(part), False),
    "dispatch": dispatched,
    "visitor": Visitor().visit,
    "text": lambda part: "Pool2d(" in repr(part),
    "window": lambda part: hasattr(part, "ceil_mode"),
    "stride": strides_by_two,
}


class Asks(Collects):
    def __init__(self, ask: str, traceable: bool) -> None:
        super().__init__()
        self.ask, self.traceable = ask, traceable

    def forward(self, x: Tensor) -> list[Tensor]:
        return super().forward(x) if self.traceable or x.sum() < 1e9 else [x]

    def is_pool(self, part: nn.Module) -> bool:
        return ASKS[self.ask](part)


@pytest.mark.parametrize("traceable", [True, False])
@pytest.mark.parametrize("ask", ASKS)
def test_a_model_may_ask_what_its_pools_are(ask: str, traceable: bool) -> None:
    net, x = Asks(ask, traceable), torch.randn(1, 3, 50, 50)
    mine, plain = az.antialias(net), az.antialias(net.parts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing is left
        again = az.antialias(mine)
    for model in (mine, again):
        *kept, end = model(x)
        assert [y.shape for y in (*kept, end)] == [y.shape for y in net(x)]
        if traceable:
            torch.testing.assert_close(end, plain(x))  # where nobody asks, pools are replaced
    assert [site.placement.where for site in az.plan(net).treated if site.kind != "conv"] == ["within", "within"]
    if traceable:  # else the blur goes right after the convolution, since the parts are called one by one
        torch.testing.assert_close(az.antialias(net, graph=True)(x)[-1], plain(x))
    torch.testing.assert_close(az.antialias(net, 1, kinds=("conv", "maxpool"))(x), net(x))


def test_a_pools_own_hook_may_ask_what_the_pool_is() -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)), torch.randn(1, 3, 20, 20)
    net[1].register_forward_hook(lambda pool, _, output: output * (3 if type(pool) is nn.MaxPool2d else 1))
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))
    torch.testing.assert_close(az.antialias(net)(x), 3 * az.MaxBlurPool2d(2)(net[0](x)))


def test_a_pool_that_stays_is_called_by_keyword_and_scripted() -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)), torch.randn(1, 4, 18, 18)
    handle = net[1].register_forward_hook(lambda pool, _, output: None)
    pool = az.antialias_(net)[1]
    handle.remove()
    assert type(pool) is nn.MaxPool2d
    expected = az.MaxBlurPool2d(2)(x)
    assert torch.equal(pool(x), expected)
    assert torch.equal(pool(input=x), expected)
    assert torch.equal(torch.jit.script(pool)(x), expected)


class AsksStride(Asks):
    def is_pool(self, part: nn.Module) -> bool:
        return strides_by_two(part)


@pytest.mark.parametrize("traceable", [True, False])
def test_a_convolution_whose_stride_a_helper_reads_keeps_it(traceable: bool) -> None:
    net, x = AsksStride("stride", traceable), torch.ones(1, 3, 50, 50)
    net.parts[3] = nn.Conv2d(4, 4, 2, 2)
    assert [(site.name, "may read its stride" in site.reason) for site in az.plan(net).skipped] == [
        ("parts.3", not traceable)
    ]
    assert [y.shape for y in az.antialias(net)(x)] == [y.shape for y in net(x)]


class ReadsStride(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU()
        self.other = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        return self.other(F.interpolate(x, scale_factor=float(self.conv.stride[0])))


def test_a_convolution_whose_stride_is_read_keeps_it() -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), ReadsStride()), torch.randn(1, 3, 34, 34)
    conv, other, *_ = az.plan(net).sites
    assert "reads its stride" in conv.reason
    assert "graph=True can" in conv.reason
    assert other.placement is not None
    for graph in (False, True):
        torch.testing.assert_close(az.antialias(net, 1, graph=graph)(x), net(x))
