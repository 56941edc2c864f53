"""Convolutions and norms with code of their own: right, or left with a reason."""

from __future__ import annotations

from types import MethodType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antialiased_zoo as az

TAPS = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64) / 8


def blurred(x: Tensor) -> Tensor:
    """Filter size 4 and stride 2, by the definition."""
    kernel = (TAPS[:, None] * TAPS).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, (1, 2, 1, 2), mode="reflect"), kernel.to(x), stride=2, groups=x.shape[1])


def between(*modules: nn.Module) -> nn.Sequential:
    """A stem, the modules, and a convolution, in float64."""
    torch.manual_seed(0)
    stem = nn.Conv2d(3, 8, 3, padding=1)
    return nn.Sequential(stem, nn.ReLU(), *modules, nn.Conv2d(8, 8, 1)).double().eval()


IMAGES = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class ConvReLU(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class ReLUConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.leaky_relu(x - 0.5))


@pytest.mark.parametrize("make", [ConvReLU, ReLUConv])
def test_a_1x1_convolution_with_a_nonlinearity_inside_is_dense_before_the_blur(make: type[nn.Conv2d]) -> None:
    net = between(conv := make(8, 8, 1, 2))
    mine = az.antialias(net)
    conv.stride = (1, 1)
    torch.testing.assert_close(mine(IMAGES), net[3](blurred(conv(net[1](net[0](IMAGES))))))
    assert "linear" not in az.plan(between(make(8, 8, 1, 2))).treated[0].reason.split()


class Scaled(nn.Conv2d):
    def forward(self, x: Tensor, by: float = 1.0, offset: Tensor | None = None) -> Tensor:
        x = super().forward(by * x)
        return x if offset is None else x + offset


class Masked(nn.Conv2d):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> object:
        x = super().forward(x)
        return x if mask is None else (x * mask, mask)


class CallsScaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.out = nn.Conv2d(3, 8, 3, padding=1), Scaled(8, 8, 1, 2), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.down(self.stem(x).relu(), by=2.0))


class CallsMasked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.out = nn.Conv2d(3, 8, 3, padding=1), Masked(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x, mask = self.down(self.stem(x).relu(), mask)
        return self.out(x.relu()) * mask


def test_further_arguments_of_a_call_are_tried_too() -> None:
    net = CallsScaled().double()
    x = net.stem(IMAGES).relu()
    expected = net.out(blurred(F.conv2d(2 * x, net.down.weight, net.down.bias)))
    torch.testing.assert_close(az.antialias(net)(IMAGES), expected)


@pytest.mark.filterwarnings("ignore:nothing in")
def test_a_call_with_arguments_that_the_model_computes_is_left() -> None:
    net, mask = CallsMasked().double(), torch.ones(1, 1, 16, 16, dtype=torch.float64)
    (site,) = az.plan(net).sites
    assert "Masked has its own forward" in site.reason
    assert not site.placement
    torch.testing.assert_close(az.antialias(net)(IMAGES, mask), net(IMAGES, mask))


class Swish(nn.BatchNorm2d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x * self.sigmoid(x)


class Activated(nn.BatchNorm2d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


@pytest.mark.parametrize(("make", "host"), [(Swish, "3"), (Activated, "3.act")])
def test_a_blur_goes_after_a_norms_activation_only_if_the_norm_returns_it(make: type[nn.Module], host: str) -> None:
    net = between(nn.Conv2d(8, 8, 3, 2, 1), make(8))
    net[3].running_mean.normal_()
    assert str(az.plan(net).treated[0].placement) == f"after {host}"
    dense = net[3](F.conv2d(net[1](net[0](IMAGES)), net[2].weight, net[2].bias, padding=1))
    torch.testing.assert_close(az.antialias(net)(IMAGES), net[4](blurred(dense)))


def test_a_complex_convolution_is_blurred_part_by_part() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Conv2d(3, 3, 3, s, 1, dtype=torch.complex128) for s in (1, 2)))
    x = torch.randn(1, 3, 16, 16, dtype=torch.complex128)
    dense = F.conv2d(net[0](x), net[1].weight, net[1].bias, padding=1)
    expected = torch.complex(blurred(dense.real), blurred(dense.imag))
    torch.testing.assert_close(az.antialias(net)(x), expected)


def circular(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What scripts for seamless textures put into each convolution."""
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), weight, bias, conv.stride)


def test_a_method_that_was_replaced_in_one_convolution_is_tried() -> None:
    net = between(conv := nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
    conv._conv_forward = MethodType(circular, conv)
    dense = F.pad(net[1](net[0](IMAGES)), (1, 1, 1, 1), mode="circular")
    dense = F.conv2d(dense, conv.weight, conv.bias).relu()
    torch.testing.assert_close(az.antialias(net)(IMAGES), net[4](blurred(dense)))


@pytest.mark.filterwarnings("ignore:nothing in")
def test_a_replaced_forward_with_a_stride_of_its_own_is_left() -> None:
    net = between(conv := nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
    conv.forward = lambda x: F.conv2d(x, conv.weight, conv.bias, 2, 1)
    expected = net(IMAGES)
    assert "own forward" in az.plan(net).sites[0].reason
    torch.testing.assert_close(az.antialias_(net)(IMAGES), expected)


class Averaging(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.avg_pool2d(x, 2))


class Literal(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, 2, 1)


class Slicing(nn.MaxPool2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[..., ::2, ::2])


class Holding(nn.Conv2d):
    def __init__(self, *args: int) -> None:
        super().__init__(*args)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor, low: Tensor | None = None) -> Tensor:
        return self.pool(super().forward(x) if low is None else super().forward(x) + low)


class Attention(nn.Module):
    """Cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x) if x.sum() > 0 else x


class Attending(nn.Conv2d):
    def __init__(self, *args: int) -> None:
        super().__init__(*args)
        self.attention = Attention()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.attention(x))


class TwoMaps(nn.Conv2d):
    """Needs its second argument, as octave convolutions do."""

    def forward(self, x: Tensor, low: Tensor | None = None) -> Tensor:
        return super().forward(x) + F.avg_pool2d(low, 2)


class Undecided(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.avg_pool2d(x, 2) if x.sum() > 0 else x)


INSIDE = {
    Averaging: ("1:avg_pool2d", "avgpool"),
    Literal: ("1:conv2d", "conv"),
    Slicing: ("1:getitem", "slice"),
    Holding: ("1.pool", "maxpool"),
    TwoMaps: ("1:avg_pool2d", "avgpool"),
    Attending: ("1.attention.pool", "avgpool"),
}


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize(("make", "found"), INSIDE.items())
def test_what_strides_inside_a_forward_of_its_own_is_listed(
    make: type[nn.Module], found: tuple[str, str], traced: bool
) -> None:
    class Net(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if traced or x.sum() > 0 else x

    op = make(2, 1) if make is Slicing else make(4, 4, 3)
    (site,) = az.plan(Net(nn.Conv2d(3, 4, 1), op)).sites
    assert (site.name, site.kind, site.placement) == (*found, None)
    assert f"inside the forward of a {make.__name__}" in site.reason


@pytest.mark.parametrize("upsample", [None, 3])
@pytest.mark.parametrize("traced", [True, False])
def test_what_strides_inside_a_transposed_convolution_is_listed_once(traced: bool, upsample: int | None) -> None:
    class Reduces(nn.ConvTranspose2d):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(F.avg_pool2d(x, 2))

    class Net(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if traced or x.sum() > 0 else x

    sites = az.plan(Net(nn.Conv2d(3, 4, 1), Reduces(4, 4, 2, 2)), upsample=upsample).sites
    assert [site.name for site in sites if site.kind == "avgpool"] == ["1:avg_pool2d"]


def test_a_forward_of_its_own_that_cannot_be_traced_is_noted_if_it_may_stride() -> None:
    plan = az.plan(nn.Sequential(nn.Conv2d(3, 4, 1), Undecided(4, 4, 3)))
    assert not plan.sites
    assert plan.notes[0].startswith("1: Undecided cannot be traced")
