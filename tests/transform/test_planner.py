"""The rules on networks made for each of them; sizes and filter size 1 prove that nothing was misplaced."""

from __future__ import annotations

import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from transforming import assert_same_places
from ways import fails_on_oldest

import antialiased_zoo as az


class Functional(nn.Module):
    """Functions that stride, and one activation module with two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.relu = nn.ReLU()
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.relu(self.conv(x)), 3, 2, 1)
        x = self.relu(self.down(x))
        x = self.left(x) + self.right(x)
        x = F.relu(F.conv2d(x, self.down.weight, stride=2, padding=1))
        return F.avg_pool2d(x, 2)


def test_functions_are_skipped_with_a_reason_or_treated_in_a_graph() -> None:
    net = Functional().eval()
    reasons = [site.reason for site in az.plan(net).skipped]
    assert len(reasons) == 4
    assert all("graph=True" in reason for reason in reasons)
    assert len(az.plan(net, graph=True).treated) == 4
    mine = az.antialias(net, 4, graph=True)
    assert isinstance(mine, fx.GraphModule)
    assert mine.state_dict().keys() == net.state_dict().keys()
    assert_same_places(net, *(torch.randn(2, 3, *size) for size in ((32, 32), (35, 42))), graph=True)
    kinds = [type(module).__name__ for name, module in mine.named_modules() if name.startswith("blur_")]
    assert sorted(kinds) == ["AvgBlurPool2d", "Downsample", "Downsample", "MaxBlurPool2d"]


def test_a_graph_is_made_only_where_modules_do_not_do() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    assert type(az.antialias(net, graph=True)) is nn.Sequential


@pytest.mark.parametrize(("ndim", "sizes"), [(1, ((40,), (43,))), (3, ((12, 16, 16), (13, 17, 14)))])
def test_sequences_and_volumes(ndim: int, sizes: tuple[tuple[int, ...], ...]) -> None:
    conv, norm = ((nn.Conv1d, nn.BatchNorm1d), (), (nn.Conv3d, nn.BatchNorm3d))[ndim - 1]
    maximum, average = ((nn.MaxPool1d, nn.AvgPool1d), (), (nn.MaxPool3d, nn.AvgPool3d))[ndim - 1]
    net = nn.Sequential(
        *(conv(2, 4, 3, padding=1), norm(4), nn.ReLU(), maximum(3, 2, 1)),
        *(conv(4, 4, 3, stride=2, padding=1), norm(4), nn.SiLU(), conv(4, 4, 1, stride=2), average(2)),
    ).eval()
    plan = az.plan(net)
    assert [str(site.placement) for site in plan.sites] == ["instead 3", "after 6", "before 7", "instead 8"]
    assert_same_places(net, *(torch.randn(1, 2, *size) for size in sizes))


@pytest.mark.parametrize("stride", [(1, 2), (2, 1), (3, 2)])
def test_stride_pairs_and_odd_convolutions(stride: tuple[int, int]) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(4, 4, (3, 5), stride, (1, 0), dilation=(2, 1), groups=2, padding_mode="circular"),
        nn.ELU(),
        nn.MaxPool2d((3, 2), stride, (1, 0), ceil_mode=True),
        nn.AvgPool2d((2, 3), (1, 2), (0, 1), ceil_mode=True),
    ).eval()
    assert_same_places(net, *(torch.randn(1, 3, *size) for size in ((40, 40), (41, 47))))


def test_two_blurs_on_one_module_are_both_kept() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.relu = nn.Conv2d(3, 4, 3), nn.ReLU()
            self.first, self.second = nn.Conv2d(4, 4, 3, 2), nn.Conv2d(4, 4, 1, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.relu(self.first(self.relu(self.stem(x)))))

    net = Shared().eval()
    assert [str(site.placement) for site in az.plan(net).sites] == ["before second", "before second"]
    assert_same_places(net, torch.randn(1, 3, 33, 40))


class Branching(nn.Module):
    """Control flow on values: no graph exists."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(16, 4, 3, 2), nn.ReLU(), nn.MaxPool2d(2))
        self.loose = nn.Conv2d(4, 4, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.loose(x) if x.sum() > 0 else x


@pytest.mark.parametrize("inside", [False, True])
def test_what_cannot_be_traced_is_read_in_parts(inside: bool) -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3), Branching()) if inside else Branching()
    plan = az.plan(net)
    prefix = "1." if inside else ""
    assert [(site.name, str(site.placement)) for site in plan.sites] == [
        (f"{prefix}body.0", f"after {prefix}body.1"),
        (f"{prefix}body.2", f"within {prefix}body.2"),
        (f"{prefix}loose", "None"),
    ]
    assert "cannot be traced" in str(plan)
    x = torch.randn(1, 3 if inside else 16, 40, 40)
    assert az.antialias(net)(x).shape == net(x).shape


def convs() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.AvgPool2d(2)),
    )


def test_control() -> None:
    def names(**rules: object) -> list[str]:
        return [site.name for site in az.plan(convs(), **rules).treated]

    assert names() == ["2", "4", "5", "7"]
    assert names(kinds=("maxpool", "avgpool")) == ["4", "7"]
    assert names(min_channels=5) == ["4", "5", "7"]
    assert names(where=lambda module, name: name != "5") == ["2", "4", "7"]


def test_before_conv_keeps_the_stride_and_does_it_once() -> None:
    mine = az.antialias(convs(), placement="before_conv")
    assert mine[2].stride == (2, 2)
    image = torch.randn(1, 3, 40, 40)
    inner = nn.Sequential(*list(convs())[:2])
    inner.load_state_dict(mine[:2].state_dict())
    expected = F.conv2d(az.blur_pool2d(inner(image), 4, 1), mine[2].weight, mine[2].bias, stride=2)
    torch.testing.assert_close(mine[:3](image), expected)
    before = repr(mine)
    with pytest.warns(UserWarning, match="left to antialias"):
        az.antialias_(mine, placement="before_conv")
    assert repr(mine) == before


class FixedFilter(nn.Module):
    """A blur as other libraries have it: a convolution with a buffer, made fit for the channels as it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("taps", torch.full((1, 1, 2, 2), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.taps.expand(4, 1, 2, 2), stride=2, groups=4)


class Unused(nn.Module):
    """A function that strides, a fixed filter, and a head that evaluation does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blur, self.auxiliary = nn.Conv2d(3, 4, 3), FixedFilter(), nn.Sequential(nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.blur(self.stem(x)), 2)
        return self.auxiliary(x) if self.training else x


@pytest.mark.parametrize("graph", [False, True])
def test_a_fixed_filter_is_left_alone(graph: bool) -> None:
    site = az.plan(Unused(), graph=graph).sites[0]
    assert (site.name, site.placement) == ("blur:conv2d", None)
    assert "fixed filter" in site.reason


@fails_on_oldest
def test_a_graph_keeps_unused_tensors_and_is_pickled() -> None:
    net, x = Unused().eval(), torch.randn(1, 3, 33, 40)
    mine = az.antialias(net, graph=True)
    assert mine.state_dict().keys() == net.state_dict().keys()
    mine.load_state_dict(net.state_dict())
    again = pickle.loads(pickle.dumps(mine))
    assert torch.equal(again(x), mine(x))
    assert again.state_dict().keys() == net.state_dict().keys()
    assert vars(net).keys() == vars(Unused()).keys()
    assert_same_places(net, x, graph=True)
