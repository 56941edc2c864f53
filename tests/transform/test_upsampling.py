"""Blurs after what upsamples: where they go, what they leave alone, and that the checkerboard and shift error fall."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import antialiased_zoo as az


class UNet(nn.Module):
    """Two levels with skip connections; each decoder upsamples in a way of its own."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()

        def convs(n: int) -> nn.Sequential:
            conv = nn.Conv2d(n, channels, 3, padding=1, padding_mode="circular", bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())

        self.first, self.second, self.third = convs(3), convs(channels), convs(channels)
        self.pool = nn.MaxPool2d(2)
        self.up2, self.up1 = nn.ConvTranspose2d(channels, channels, 2, 2), nn.Upsample(scale_factor=2)
        self.join2, self.join1 = convs(2 * channels), convs(2 * channels)
        self.head = nn.Conv2d(channels, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        b = self.second(self.pool(a))
        c = self.third(self.pool(b))
        b = self.join2(torch.cat([b, self.up2(c)], 1))
        return self.head(self.join1(torch.cat([a, self.up1(b)], 1)))


def shift_error(net: nn.Module, images: Tensor) -> float:
    """Relative energy of f(shifted x) - shifted f(x), away from the borders, over shifts of 1 to 3 pixels."""
    with torch.no_grad():
        out = net(images)
        crop = (..., slice(8, -8), slice(8, -8))
        errors = []
        for shift in ((0, 1), (1, 0), (1, 2), (2, 3), (3, 3)):
            wanted = out.roll(shift, (2, 3))
            errors.append((net(images.roll(shift, (2, 3))) - wanted)[crop].square().sum() / wanted[crop].square().sum())
    return float(torch.stack(errors).mean())


def test_a_u_nets_shift_error_falls_with_each_half_of_it_treated() -> None:
    errors = []
    for seed in range(4):
        torch.manual_seed(seed)
        net = UNet().double().train()
        images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
        net(images)  # batch norm's statistics
        net.eval()
        models = (net, az.antialias(net, 3), az.antialias(net, 3, upsample=3))
        errors.append([shift_error(model, images) for model in models])
        plain, down, both = errors[-1]
        assert both < 0.3 * down < 0.3 * 0.5 * plain
    plain, down, both = torch.tensor(errors).mean(0).tolist()  # the figures in docs/layers.md
    assert down / plain == pytest.approx(0.25, abs=0.05)
    assert both / plain == pytest.approx(0.03, abs=0.015)


def checkerboard(net: nn.Module) -> float:
    """What a constant map does not come out as, away from the borders."""
    with torch.no_grad():
        out = net(torch.ones(1, 4, 24, 24, dtype=torch.float64))[..., 12:-12, 12:-12]
    return float(out.std(dim=(2, 3)).mean() / out.abs().mean())


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (4, 2), (5, 3), (4, 4), (7, 4)])
@pytest.mark.parametrize("filt_size", [2, 3, 5])
def test_a_transposed_convolutions_checkerboard_is_gone(filt_size: int, kernel: int, stride: int) -> None:
    net = nn.Sequential(nn.ConvTranspose2d(4, 4, kernel, stride)).double()
    assert checkerboard(net) > 0.05
    assert checkerboard(az.antialias(net, upsample=filt_size)) < 1e-12


def test_nearest_then_three_taps_is_the_layer_with_four() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Upsample(scale_factor=4))
    x = torch.randn(1, 3, 7, 9)
    mine = az.antialias(net, upsample=3)
    expected = az.BlurUpsample(3, filt_size=4, stride=4)(net[0](x))
    torch.testing.assert_close(mine(x)[..., 8:-8, 8:-8], expected[..., 8:-8, 8:-8])


def test_the_plan_lists_the_sites_and_says_why_not() -> None:
    net = nn.Sequential(
        *(nn.Conv2d(4, 8, 3), nn.ConvTranspose2d(8, 4, 3, 2), nn.ConvTranspose2d(4, 4, 3), nn.PixelShuffle(2)),
        *(nn.Upsample(scale_factor=1.5), nn.Upsample(scale_factor=2, mode="bilinear"), nn.UpsamplingNearest2d(7)),
        *(nn.UpsamplingNearest2d(scale_factor=2), nn.Upsample(scale_factor=(1, 3), mode="nearest-exact")),
    )
    assert not [site for site in az.plan(net).sites if site.kind != "resize"]
    plan = az.plan(net, upsample=3)
    placed = {site.name: (site.kind, site.stride, site.channels, str(site.placement)) for site in plan.treated}
    assert placed == {
        "1": ("convtranspose", (2, 2), 4, "after 1"),
        "3": ("upsample", (2, 2), None, "after 3"),
        "7": ("upsample", (2, 2), None, "after 7"),
        "8": ("upsample", (1, 3), None, "after 8"),
    }
    reasons = {site.name: site.reason for site in plan.skipped}
    assert reasons.keys() == {"4", "6"}
    assert "not an integer" in reasons["4"]
    few = az.plan(net, upsample=3, min_channels=9, where=lambda module, name: name != "3")
    assert {site.name for site in few.treated} == {"7", "8"}
    assert str(plan).splitlines()[1].endswith("a dense blur removes the checkerboard")


def test_parameters_sizes_and_names_stay() -> None:
    net = UNet().eval()
    parameters, keys = dict(net.named_parameters()), list(net.state_dict())
    images = [torch.randn(1, 3, *size) for size in ((32, 32), (36, 44))]
    before = [net(image) for image in images]
    same = az.antialias(net, 1, upsample=1)
    for image, expected in zip(images, before, strict=True):
        torch.testing.assert_close(same(image), expected, rtol=1e-5, atol=1e-5)
    assert az.antialias_(net, 3, upsample=3) is net
    assert list(net.state_dict()) == keys
    assert all(parameter is parameters[name] for name, parameter in net.named_parameters())
    assert repr(net.up2.blur_after) == "Downsample(8, filt_size=3, stride=(2, 2), reflect, wide=True, dense=True)"
    assert net.up2.stride == (2, 2)
    for image, expected in zip(images, before, strict=True):
        assert net(image).shape == expected.shape
    blurs = repr(net)
    with pytest.warns(UserWarning, match="nothing in UNet was left"):
        az.antialias_(net, 3, upsample=3)
    assert repr(net) == blurs
    exported = torch.export.export(net, (images[0],)).module()
    for twin in (copy.deepcopy(net), exported, torch.compile(net, fullgraph=True, backend="eager")):
        torch.testing.assert_close(twin(images[0]), net(images[0]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ndim", [1, 3])
def test_sequences_and_volumes(ndim: int) -> None:
    transposed, conv = ((nn.ConvTranspose1d, nn.Conv1d), (), (nn.ConvTranspose3d, nn.Conv3d))[ndim - 1]
    stride = (1, 2, 3)[-ndim:]
    net = nn.Sequential(conv(2, 4, 1), nn.Upsample(scale_factor=2), transposed(4, 4, 3, stride))
    x = torch.randn(1, 2, *(5, 6, 7)[-ndim:])
    mine = az.antialias(net, upsample=3)
    assert mine(x).shape == net(x).shape
    assert [len(taps) for taps in mine[2].blur_after.blur.taps] == [1, 3, 5][-ndim:]
    assert type(mine[1].blur_after) is (az.Downsample1d, None, az.Downsample3d)[ndim - 1]
    torch.testing.assert_close(az.antialias(net, upsample=1)(x), net(x))


class Functional(nn.Module):
    """Functions that upsample."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.weight = nn.Conv2d(3, 4, 3), nn.Parameter(torch.randn(4, 4, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(self.conv(x), scale_factor=2)
        x = F.conv_transpose2d(x, self.weight, stride=(1, 2)) + 1
        return F.interpolate(F.pixel_shuffle(x, 2), scale_factor=2, mode="bilinear")


def test_functions_are_skipped_with_a_reason_or_treated_in_a_graph() -> None:
    net = Functional().eval()
    plan = az.plan(net, upsample=3)
    assert [site.stride for site in plan.skipped] == [(2, 2), (1, 2), (2, 2)]
    assert all("graph=True" in site.reason for site in plan.skipped)
    mine = az.antialias(net, upsample=3, graph=True)
    assert isinstance(mine, fx.GraphModule)
    assert [type(m).__name__ for m in mine.modules()].count("Downsample") == 3
    x = torch.randn(1, 3, 9, 10)
    assert mine(x).shape == net(x).shape
    torch.testing.assert_close(az.antialias(net, upsample=1, graph=True)(x), net(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = az.antialias(mine, upsample=3, graph=True)
    assert [str(module) for module in again.children()] == [str(module) for module in mine.children()]


class Branching(nn.Module):
    """Control flow on values: no graph exists."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.repeat = nn.ConvTranspose2d(3, 3, 2, 2), nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.repeat(self.up(x)) if x.sum() > 0 else x


def test_a_module_in_code_that_cannot_be_traced() -> None:
    plan = az.plan(Branching(), upsample=3)
    assert [str(site.placement) for site in plan.sites] == ["after up", "None"]
    mine = az.antialias(Branching(), upsample=3)
    assert mine(torch.ones(1, 3, 4, 4)).shape == (1, 3, 16, 16)
    assert isinstance(mine.up.blur_after, az.Downsample)
    assert not az.plan(Branching()).sites


def test_numpys_integers_are_factors_too() -> None:
    two = np.int64(2)
    net = nn.Sequential(nn.ConvTranspose2d(48, 48, two, (two, two)), nn.PixelShuffle(two), Shuffle(two))
    plan = az.plan(net, graph=True, upsample=3)
    assert [site.stride for site in plan.treated] == [(2, 2)] * 3
    assert az.antialias(net, graph=True, upsample=3)(torch.randn(1, 48, 4, 4)).shape == (1, 3, 32, 32)


class Shuffle(nn.Module):
    def __init__(self, factor: object) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, self.factor)


def test_a_network_without_convolutions_does_not_tell_its_axes() -> None:
    (site,) = az.plan(nn.Sequential(nn.Upsample(scale_factor=2)), upsample=3).sites
    assert "unknown number of axes" in site.reason


@pytest.mark.parametrize("bad", [True, 9, [1, -1]])
def test_bad_filter_sizes_leave_the_model_alone(bad: object) -> None:
    net = UNet()
    before = repr(net)
    with pytest.raises(ValueError, match=r"filter size|taps"):
        az.antialias_(net, upsample=bad)
    assert repr(net) == before
