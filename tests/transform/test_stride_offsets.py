"""Ops whose padding depends on their stride: where they subsample is found by trying, and the blur starts there."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antialiased_zoo as az
from antialiased_zoo.layers.offset_downsample import OffsetDownsample
from antialiased_zoo.transform.op_table import read_module
from antialiased_zoo.transform.stride_offsets import find_stride_offsets


def same_pads(n: int, k: int, s: int, d: int) -> tuple[int, int]:
    """TensorFlow's "SAME": as many outputs as ceil(n / s), and the odd pixel of padding after the map."""
    total = max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)
    return total // 2, total - total // 2


def padded(x: Tensor, op: nn.Conv2d | nn.MaxPool2d, value: float = 0) -> Tensor:
    pads = [same_pads(n, *geometry) for n, *geometry in zip(x.shape[2:], *map(pair, geometry_of(op)), strict=True)]
    return F.pad(x, [p for pad in reversed(pads) for p in pad], value=value)


def geometry_of(op: nn.Conv2d | nn.MaxPool2d) -> tuple[object, object, object]:
    return op.kernel_size, op.stride, op.dilation


def pair(value: object) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value, value)


class SameConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        x = padded(x, self)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class SameMaxPool(nn.MaxPool2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(padded(x, self, -math.inf), self.kernel_size, self.stride, 0, self.dilation)


class StandardisedConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / variance.sqrt(), self.bias)


class OneAxis(nn.Conv2d):
    """Pads both axes as the first needs it."""

    def forward(self, x: Tensor) -> Tensor:
        pads = same_pads(x.shape[2], self.kernel_size[0], self.stride[0], 1)
        return F.conv2d(F.pad(x, pads * 2), self.weight, self.bias, self.stride)


class Turned(nn.Conv2d):
    """Not its dense evaluation subsampled: another filter where it strides."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight.flip(-1) if self.stride[0] > 1 else self.weight, self.bias)


SIZES = ((32, 32), (33, 35), (30, 37), (31, 34))


@pytest.mark.parametrize(
    "make",
    [
        lambda: SameConv(4, 8, 3, 2),
        lambda: SameConv(4, 4, 5, 2, groups=4),
        lambda: SameConv(4, 8, (2, 3), (1, 2)),
        lambda: SameConv(4, 8, 3, 3, dilation=2),
        lambda: SameConv(4, 8, 1, 2),
        lambda: SameMaxPool(3, 2),
        lambda: SameMaxPool(2, 3),
        lambda: StandardisedConv(4, 8, 3, 2, 1),
    ],
)
def test_an_own_forward_is_treated_where_it_subsamples(make: object) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), make(), nn.ReLU()).eval()
    assert len(az.plan(net).treated) == 1
    same, mine = az.antialias(net, 1), az.antialias(net, 4)
    assert list(mine.state_dict()) == list(net.state_dict())
    for size in SIZES:
        x = torch.randn(2, 3, *size)
        torch.testing.assert_close(same(x), net(x), rtol=1e-5, atol=1e-5)
        assert mine(x).shape == net(x).shape
        assert not torch.allclose(mine(x), net(x))
    before = repr(mine)
    with pytest.warns(UserWarning, match="left to antialias"):
        az.antialias_(mine)
    assert repr(mine) == before


def test_the_offsets_are_those_of_the_formula() -> None:
    for k, s, d in ((3, 2, 1), (5, 2, 1), (3, 3, 2), (7, 4, 1)):
        conv = SameConv(2, 2, k, s, dilation=d)
        wanted = tuple(same_pads(n, k, 1, d)[0] - same_pads(n, k, s, d)[0] for n in range(100 * s, 101 * s))
        assert find_stride_offsets(conv, read_module(conv), (1, 1)) == (wanted, wanted)


def test_a_model_that_is_built_without_data_is_treated_alike() -> None:
    """The offsets are found by running a copy, which needs values wherever the default device is."""
    with torch.device("meta"):
        conv = SameConv(2, 2, 3, 2)
        assert find_stride_offsets(conv, read_module(conv), (1, 1)) == ((1, 0), (1, 0))
        network = az.efficientnet_lite0(filter_size=4)
    assert sum(isinstance(module, az.Downsample) for module in network.modules()) == 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_torchs_default_dtype_changes_nothing(dtype: torch.dtype) -> None:
    """The copy that is run has a dtype of its own, and so must the random map."""
    conv = SameConv(2, 2, 3, 2)
    torch.set_default_dtype(dtype)
    try:
        assert find_stride_offsets(conv, read_module(conv), (1, 1)) == ((1, 0), (1, 0))
        network = az.efficientnet_lite0(filter_size=4)
    finally:
        torch.set_default_dtype(torch.float32)
    assert sum(isinstance(module, az.Downsample) for module in network.modules()) == 4
    assert next(network.parameters()).dtype == dtype


@pytest.mark.parametrize("make", [Turned, OneAxis])
def test_what_is_not_its_dense_evaluation_is_left_with_the_reason(make: type[nn.Conv2d]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), make(4, 4, 3, 2), nn.ReLU())
    (site,) = az.plan(net).sites
    assert site.placement is None
    assert f"{make.__name__} has its own forward" in site.reason


def test_trying_leaves_everything_as_it_was() -> None:
    conv = SameConv(3, 4, 3, 2)
    weight, state = conv.weight.clone(), torch.random.get_rng_state()
    find_stride_offsets(conv, read_module(conv), (1, 1))
    assert torch.equal(conv.weight, weight)
    assert conv.stride == (2, 2)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.device("meta"):
        meta = SameConv(3, 4, 3, 2, dtype=torch.float16)
    assert find_stride_offsets(meta, read_module(meta), (1, 1)) == ((1, 0), (1, 0))


def test_an_aligned_blur_is_the_dense_blur_at_those_places() -> None:
    for offsets, n in (((1, 0), 10), ((1, 0), 11), ((0, 1), 11), ((2, 0, 1), 12), ((2, 0, 1), 14)):
        stride = len(offsets)
        x = torch.randn(2, 3, n, dtype=torch.float64)
        layer = OffsetDownsample((offsets,), (stride,), filt_size=4).double()
        dense = az.Downsample1d(3, filt_size=4, stride=1).double()(x)
        torch.testing.assert_close(layer(x), dense[..., offsets[n % stride] :: stride])


def test_offsets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="each remainder"):
        OffsetDownsample(((1, 0, 0),), (2,))
