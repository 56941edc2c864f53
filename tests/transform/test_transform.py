"""The plan, and what applying it keeps and changes."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torchvision
from torch import nn

import antialiased_zoo as az


def block() -> nn.Module:
    """A network with one of each: stem, max pool, residual block with a shared ReLU, average pool."""
    net = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=5)
    net.layer3.add_module("pool", nn.AvgPool2d(2))
    return net


def test_plan_places_every_blur_as_the_paper_does() -> None:
    placed = {site.name: (str(site.placement), site.channels) for site in az.plan(block()).treated}
    assert placed == {
        "maxpool": ("instead maxpool", None),
        "layer2.0.conv1": ("before layer2.0.conv2", 128),
        "layer2.0.downsample.0": ("before layer2.0.downsample.0", 64),
        "layer3.0.conv1": ("before layer3.0.conv2", 256),
        "layer3.0.downsample.0": ("before layer3.0.downsample.0", 128),
        "layer3.pool": ("instead layer3.pool", None),
        "layer4.0.conv1": ("before layer4.0.conv2", 512),
        "layer4.0.downsample.0": ("before layer4.0.downsample.0", 256),
    }


def test_plan_changes_nothing_and_prints_every_strided_op() -> None:
    net = block()
    before = repr(net)
    table = str(az.plan(net)).splitlines()
    assert repr(net) == before
    strided = [name for name, m in net.named_modules() if isinstance(m, nn.Conv2d) and m.stride != (1, 1)]
    assert {line.split()[0] for line in table[1:]} == {*strided, "maxpool", "layer3.pool"}
    assert any("conv1" in line and "skipped" in line and "reads the image" in line for line in table)


def test_parameters_class_hooks_mode_and_keys_stay() -> None:
    net = block().eval()
    calls: list[str] = []
    net.maxpool.register_forward_hook(lambda *_: calls.append("pool"))
    net.layer2[0].conv2.register_forward_hook(lambda *_: calls.append("conv"))
    parameters, keys, modules = dict(net.named_parameters()), list(net.state_dict()), dict(net.named_modules())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = net.fc.weight.clone()
    assert az.antialias_(net) is net
    assert type(net) is torchvision.models.ResNet
    after = dict(net.named_parameters())
    assert after.keys() == parameters.keys()
    assert all(after[name] is parameters[name] for name in parameters)
    assert list(net.state_dict()) == keys
    assert not any(module.training for module in net.modules())
    kept = [name for name, m in modules.items() if dict(net.named_modules()).get(name) is not m]
    assert kept == ["layer3.pool"]  # pools alone are replaced, but for those whose hook may ask what they are
    net(torch.randn(2, 3, 64, 64)).sum().backward()
    assert calls == ["pool", "conv"]
    optimizer.step()
    assert not torch.equal(net.fc.weight, before)


def test_antialias_leaves_the_original_alone() -> None:
    net = block().eval()
    x = torch.randn(1, 3, 64, 64)
    before = net(x)
    mine = az.antialias(net)
    assert torch.equal(net(x), before)
    assert not torch.allclose(mine(x), before)


def test_a_second_call_changes_nothing() -> None:
    net = az.antialias(block())
    before = repr(net)
    with pytest.warns(UserWarning, match="nothing in ResNet was left to antialias"):
        az.antialias_(net)
    assert repr(net) == before


def test_nothing_strided_warns() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.warns(UserWarning, match="Sequential"):
        az.antialias_(net)


@pytest.mark.parametrize("stem_stride", [1, 2])
def test_filter_size_1_gives_the_same_outputs(stem_stride: int) -> None:
    """A dense evaluation, subsampled, is the strided op: so every stride went to the right place."""
    net = block().eval()
    net.layer3.pool = nn.Identity()  # an average pool becomes the blur alone
    for size in ((64, 64), (65, 79)):
        x = torch.randn(2, 3, *size)
        torch.testing.assert_close(az.antialias(net, 1, stem_stride=stem_stride)(x), net(x), rtol=1e-5, atol=1e-5)


def test_stem_stride_divides_the_stem() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 11, stride=4), nn.ReLU())
    for stem_stride, keep in ((1, 1), (2, 2)):
        mine = az.antialias(net, stem_stride=stem_stride)
        assert mine[0].stride == (keep, keep)
        assert mine[1].blur_after.stride == (4 // keep, 4 // keep)
        assert mine(torch.randn(1, 3, 64, 64)).shape == net(torch.randn(1, 3, 64, 64)).shape
    assert "keeps its stride of 4" in az.plan(net, stem_stride=4).skipped[0].reason
    assert "does not divide" in az.plan(net, stem_stride=3).skipped[0].reason


def test_structures() -> None:
    net = block()
    assert az.antialias(net).maxpool.window.size == (3, 3)
    assert az.antialias(net, stem_pool="max2").maxpool.window.size == (2, 2)
    assert isinstance(az.antialias(net, stem_pool="blur").maxpool, az.Downsample)
    left = az.antialias(net, shortcut="stride")
    assert left.layer2[0].downsample[0].stride == (2, 2)
    assert left.layer2[0].conv1.stride == (1, 1)


def test_a_shared_activation_with_several_readers_is_skipped_with_a_reason() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.relu = nn.ReLU()
            self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1)
            self.a = nn.Conv2d(8, 8, 1)
            self.b = nn.Conv2d(8, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.relu(self.down(self.relu(self.stem(x))))
            return self.a(x) + self.b(x)

    (site,) = az.plan(Fork()).sites
    assert site.placement is None
    assert "modules alone cannot hold" in site.reason


def test_a_functional_activation_is_followed_to_the_module_that_returns_it() -> None:
    net = torchvision.models.googlenet(init_weights=False, aux_logits=False)
    plan = az.plan(net, stem_stride=1)
    assert str(plan.sites[0].placement) == "after conv1"
    x = torch.randn(1, 3, 96, 96)
    assert az.antialias(net, stem_stride=1).eval()(x).shape == (1, 1000)


def test_own_taps_reach_every_blur() -> None:
    net = block().eval()
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(az.antialias(net, [1, 3, 3, 1])(x), az.antialias(net, 4)(x))
    mine = az.antialias(net, (1, 2, 4))
    blurs = [module for module in mine.modules() if hasattr(module, "filt_size")]
    assert [blur.filt_size for blur in blurs] == [(1 / 7, 2 / 7, 4 / 7)] * 8
    assert mine(x).shape == net(x).shape


def test_wide_reaches_every_blur_of_a_long_stride() -> None:
    convs = (nn.Conv2d(8, 8, 3, (4, 1), 1), nn.Conv2d(8, 8, 1, 3))
    net = nn.Sequential(nn.Conv2d(3, 8, 3), convs[0], nn.ReLU(), convs[1], nn.MaxPool2d(4), nn.AvgPool2d(1, 3)).eval()
    images = [torch.randn(1, 3, *size) for size in ((161, 67), (203, 75))]
    mine, plain = az.antialias(net, 3, wide=True), az.antialias(net, 3)
    assert [mine[2].blur_after, mine[3].blur_before, mine[4], mine[5]] == [
        m for m in mine.modules() if hasattr(m, "wide")
    ]
    lengths = [tuple(map(len, m.blur.taps)) for m in mine.modules() if hasattr(m, "wide")]
    assert lengths == [(7, 1), (5, 5), (7, 7), (5, 5)]
    for image in images:
        assert mine(image).shape == net(image).shape
        assert not torch.allclose(mine(image), plain(image))
    first = az.antialias(net, 3, wide=True, placement="before_conv")[1].blur_before
    assert (first.blur.stride, tuple(map(len, first.blur.taps))) == ((1, 1), (7, 1))


def test_blurs_take_the_models_dtype() -> None:
    net = az.antialias(block().double())
    assert net.layer2[0].conv2.blur_before.kernel.dtype == torch.float64
    assert net(torch.randn(2, 3, 64, 64, dtype=torch.float64)).dtype == torch.float64


def test_copies_and_pickles() -> None:
    net = az.antialias(block()).eval()
    x = torch.randn(2, 3, 64, 64)
    stored = io.BytesIO()
    torch.save(net, stored)
    stored.seek(0)
    for twin in (copy.deepcopy(net), torch.load(stored, weights_only=False)):
        torch.testing.assert_close(twin(x), net(x), rtol=1e-4, atol=1e-5)


def test_exports() -> None:
    net, x = az.antialias(block()).eval(), torch.randn(2, 3, 64, 64)
    program = torch.export.export(net, (x,), strict=False)  # which is the default after torch 2.6
    torch.testing.assert_close(program.module()(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filter_size": 9}, "filter size 9"),
        ({"filter_size": [1, -1]}, "taps must be finite"),
        ({"filter_size": [1, 2, 1], "wide": True}, "wide=True widens binomial taps"),
        ({"pad_type": "wrap"}, "'wrap'"),
        ({"stem_stride": 0}, "stem_stride"),
        ({"shortcut": "none"}, "shortcut"),
        ({"stem_pool": "avg"}, "stem_pool"),
        ({"where": "layer1"}, "where must be a function"),
        ({"stem_strides": 1}, "no option 'stem_strides' here: did you mean stem_stride"),
        ({"pad_typ": "zero"}, "did you mean pad_type"),
        ({"blur": 4}, "the options are stem_stride, shortcut"),
    ],
)
def test_bad_options_leave_the_model_alone(options: dict[str, object], message: str) -> None:
    net = block()
    before = repr(net)
    with pytest.raises((ValueError, TypeError), match=message):
        az.antialias_(net, **options)
    assert repr(net) == before


def test_a_gate_after_a_convolution_is_named_in_the_reason() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.squeeze(x)

    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, 2, 1), Gate(), nn.ReLU())
    (site,) = az.plan(net).sites
    assert site.reason == "right after the convolution: the dataflow cannot be followed through mul"
