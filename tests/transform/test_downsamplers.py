"""A way to downsample that comes from outside the package."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import antialiased_zoo as az
from antialiased_zoo.transform.downsamplers import AlternatingBlur


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
    with pytest.raises(ValueError, match=message):
        az.plan(net, input_size=(1, 3, 32, 32), **{"downsampler": "polyphase", **options})
    assert repr(net) == before


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="choose another name"):
        az.register_downsampler("blur", Polyphase)
    with pytest.raises(TypeError, match="subclass of Downsampler"):
        az.register_downsampler("mine", PolyphaseSample)


@torch.no_grad()
@pytest.mark.parametrize(
    ("way", "displaced"), [("blur", (0.5, 1.5, 3.5, 7.5)), ("alternating", (0.5, -0.5, 1.5, -2.5))]
)
def test_half_pixels_add_up_or_nearly_cancel(way: str, displaced: tuple[float, ...]) -> None:
    """A ramp shows where each map lies: convolutions that only subsample, then a blur with an even number of taps."""
    net = nn.Sequential(*(nn.Sequential(nn.Conv2d(1, 1, 1, stride=2), nn.ReLU()) for _ in range(4)))
    for block in net:
        nn.init.ones_(block[0].weight)
        nn.init.zeros_(block[0].bias)
    x = ramp = torch.arange(256.0).expand(1, 1, 256, 256).contiguous()
    treated = az.antialias(net, 4, stem_stride=1, downsampler=way)
    for stride, block, place in zip((2, 4, 8, 16), treated, displaced, strict=True):
        x = block(x)
        assert float(x[0, 0, 4, 5]) == pytest.approx(5 * stride + place)
    torch.testing.assert_close(az.antialias(net, 4, stem_stride=1, downsampler=way, graph=True)(ramp), x)


def test_the_other_side_is_the_blur_of_a_mirrored_map_and_branches_share_it() -> None:
    x = torch.randn(1, 3, 17, 15, dtype=torch.float64)  # odd: mirroring keeps the places that stay
    for size in (2, 4, (1.0, 2.0), (1.0, 2.0, 4.0, 1.0)):
        first, second = (AlternatingBlur(size).at(level).subsample((2, 2), 3).double() for level in (0, 1))
        taps = size if isinstance(size, int) else size[::-1]
        torch.testing.assert_close(first(x), az.blur_pool2d(x, size, 2))
        torch.testing.assert_close(second(x), az.blur_pool2d(x.flip(2, 3), taps, 2).flip(2, 3))
    odd = AlternatingBlur(3).at(1).subsample((2, 2), 3).double()
    torch.testing.assert_close(odd(x), az.blur_pool2d(x, 3, 2))
    wide = AlternatingBlur(4, wide=True).at(1).subsample((4, 4), 3).double()
    torch.testing.assert_close(wide(x[..., :13]), az.blur_pool2d(x[..., :13].flip(2, 3), 4, 4, wide=True).flip(2, 3))
    resnet = az.antialias(torchvision.models.resnet18(), downsampler="alternating")
    sides = [
        (name.split(".")[0], blur.blur.padding[0]) for name, blur in resnet.named_modules() if hasattr(blur, "blur")
    ]
    assert set(sides) == {("maxpool", (1, 2)), ("layer2", (2, 1)), ("layer3", (1, 2)), ("layer4", (2, 1))}
    with pytest.raises(ValueError, match="needs equal strides"):
        AlternatingBlur(4, wide=True).at(1).subsample((2, 4), 3)
