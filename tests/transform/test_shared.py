"""One module at several places, some of which are hard to see."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transforming import assert_same_places

import antialiased_zoo as az


class Aliases(nn.Module):
    """Pools and convolutions under several names, as in published U-Nets."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.encoder = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3, padding=1)})
        self.first = nn.Sequential(self.encoder["conv"], nn.ReLU(), self.pool)
        self.second = nn.Sequential(self.pool, nn.Conv2d(4, 4, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def test_a_module_is_treated_under_all_its_names() -> None:
    net, x = Aliases(), torch.randn(1, 3, 32, 32)
    mine = az.antialias(net)
    assert mine.pool is mine.first[2] is mine.second[0]
    assert type(mine.pool) is az.MaxBlurPool2d
    y = az.max_blur_pool2d(net.first[:2](x), 2)
    torch.testing.assert_close(mine(x), net.second[1](az.max_blur_pool2d(y, 2)))


class Pyramid(nn.Module):
    """One strided convolution at each level; the first reads the image or not."""

    def __init__(self, image: bool) -> None:
        super().__init__()
        self.stem = nn.Identity() if image else nn.Conv2d(3, 3, 3, padding=1)
        self.down = nn.Conv2d(3, 3, 3, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = F.relu(self.down(self.stem(x)))
        return a, F.relu(self.down(a))


@pytest.mark.parametrize("image", [True, False])
def test_a_convolution_called_at_several_places_is_treated_at_all_or_none(image: bool) -> None:
    net, x = Pyramid(image), torch.randn(1, 3, 33, 32)
    assert len(az.plan(net, graph=True).treated) == (0 if image else 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the first nothing is treated
        for old, new in zip(net(x), az.antialias(net, 1, graph=True)(x), strict=True):
            torch.testing.assert_close(new, old)


class Listed(nn.Module):
    """Pools that are also in plain lists."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.MaxPool2d(2)
        self.pools, self.by_name = [self.one], {"two": (self.two,)}

    def forward(self, x: Tensor) -> Tensor:
        return self.by_name["two"][0](self.pools[0](self.conv(x)))


def test_a_pool_is_replaced_in_plain_lists_too() -> None:
    net, x = Listed(), torch.randn(1, 3, 40, 40)
    mine = az.antialias(net)
    assert mine.pools[0] is mine.one
    assert mine.by_name["two"][0] is mine.two
    blurred = az.max_blur_pool2d(az.max_blur_pool2d(net.conv(x), 2), 2)
    torch.testing.assert_close(mine(x), blurred)
    assert type(net.pools[0]) is nn.MaxPool2d


class Loose(nn.Module):
    """Modules that a plain list alone holds, so that they are nobody's children."""

    def __init__(self, traceable: bool = True) -> None:
        super().__init__()
        self.traceable, self.stem, self.down, self.act = traceable, nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), nn.ReLU()
        self.parts = [nn.MaxPool2d(2), nn.Sequential(nn.Conv2d(4, 4, 3, 2), nn.BatchNorm2d(4).eval())]

    def forward(self, x: Tensor) -> Tensor:
        x = self.parts[1](self.parts[0](self.stem(x))) if self.traceable or x.sum() < 1e9 else x
        return self.act(self.down(x))


def test_what_a_plain_list_holds_is_in_the_plan_and_a_graph_treats_it() -> None:
    net, x = Loose(), torch.randn(1, 3, 60, 60)
    plan = az.plan(net)
    assert [(site.kind, bool(site.placement)) for site in plan.sites] == [
        *(("maxpool", False), ("conv", False), ("conv", True))
    ]
    assert all("plain list" in site.reason and "graph=True can" in site.reason for site in plan.skipped)
    assert plan.treated[0].reason == "after the nonlinearity"
    assert [site.kind for site in az.plan(Loose(traceable=False)).sites] == ["maxpool", "conv", "conv"]
    mine = az.antialias(net, 1, graph=True)
    assert all(site.placement for site in az.plan(net, graph=True).sites)
    torch.testing.assert_close(mine(x), net(x))
    assert mine.state_dict().keys() == net.state_dict().keys()


def run_children(module: nn.Module, x: Tensor) -> Tensor:
    for child in module.children():
        x = child(x)
    return x


class ByHelper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, 2, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(run_children(self, x))


class ByName(ByHelper):
    def forward(self, x: Tensor) -> Tensor:
        for name in self._modules:
            x = self._modules[name](x)
        return x


class ByIndex(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        for index in range(len(self)):
            x = self[index](x)
        return F.relu(x)


class Untraceable(ByHelper):
    def forward(self, x: Tensor) -> Tensor:
        return self.through(x) if x.sum() < 1e9 else x

    def through(self, x: Tensor) -> Tensor:
        return run_children(self, x) if x is None else nn.Sequential(*self.children())(x)


@pytest.mark.parametrize(
    "make", [ByHelper, ByName, lambda: ByIndex(nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU(), nn.BatchNorm2d(4)), Untraceable]
)
def test_a_block_that_goes_over_its_children_holds_no_blur_of_its_own(make: Callable[[], nn.Module]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), make(), nn.Conv2d(4, 4, 1)).eval()
    assert_same_places(net, torch.randn(1, 3, 43, 40))


def test_the_blur_of_such_a_block_goes_before_its_reader() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), ByHelper(), nn.Conv2d(4, 4, 1)).eval()
    assert [str(site.placement) for site in az.plan(net).sites] == ["before 2"]
    assert_same_places(net, torch.randn(1, 3, 20, 20))


def test_reading_parameters_is_no_going_over_children() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv(x.to(next(self.parameters()).dtype)))

    end = nn.Sequential(nn.Dropout(), nn.Flatten())
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Reads(), end).eval()
    assert str(az.plan(net).sites[0].placement) in ("after 1", "before 2.0")


class Hidden(nn.Module):
    """Calls what it is given, if the values say so."""

    def __init__(self, conv: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.conv, self.act = conv, act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x)) if x.sum() < 1e9 else x


class Shares(nn.Module):
    """Calls a convolution and an activation, and has them called by code that cannot be traced."""

    def __init__(self, share: str) -> None:
        super().__init__()
        self.stem, self.conv, self.act = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), nn.ReLU()
        self.hidden = Hidden(self.conv if share == "conv" else nn.Conv2d(4, 4, 3, 2), self.act)

    def forward(self, x: Tensor) -> Tensor:
        return self.hidden(self.act(self.conv(self.stem(x))))


@pytest.mark.parametrize("share", ["conv", "act"])
def test_what_hidden_code_calls_too_is_left(share: str) -> None:
    net = Shares(share).eval()
    assert_same_places(net, torch.randn(1, 3, 40, 43))
    if share == "conv":
        assert "cannot be traced may call it" in az.plan(net).sites[0].reason


def test_parts_that_share_an_activation() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            act = nn.ReLU()
            self.one = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), act)
            self.two = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), act, nn.Conv2d(4, 4, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(x)) if x.sum() < 1e9 else x

    assert_same_places(nn.Sequential(nn.Conv2d(3, 4, 3), Parts()).eval(), torch.randn(1, 3, 40, 43))


class InPlace(nn.Module):
    """Two readers of a value that a module changes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(4, 4, 3, 2), nn.ReLU(inplace=True)
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y = self.act(x)
        return self.left(x) + self.right(y)


@pytest.mark.parametrize("graph", [False, True])
def test_a_value_changed_in_place_has_two_names(graph: bool) -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), InPlace(), nn.MaxPool2d(2)).eval(), torch.randn(1, 3, 40, 43)
    torch.testing.assert_close(az.antialias(net, 1, graph=graph)(x), net(x))
    assert len(az.plan(net, graph=graph).treated) == (2 if graph else 1)
