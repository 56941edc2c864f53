"""The costs in a plan, against arithmetic by hand and against the published ratios."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

import antialiased_zoo as az
from antialiased_zoo.transform.cost import cost_of
from antialiased_zoo.transform.plans import Cost

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"

# Multiply-adds over the plain network's, at 224x224 and filter size 4.
PUBLISHED = {
    "alexnet": 1.29,
    "vgg16": 1.00,
    "vgg16_bn": 1.00,
    "resnet18": 1.29,
    "resnet34": 1.14,
    "resnet50": 1.26,
    "resnet101": 1.13,
    "densenet121": 1.00,
    "mobilenet_v2": 1.07,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_networks_cost_what_is_known(name: str) -> None:
    with torch.device("meta"):
        plain, blurred = (az.create_model(name, filter_size=k).eval() for k in (None, 4))
    before, after = (cost_of(net, (1, 3, 224, 224)).multiply_adds for net in (plain, blurred))
    assert after / before == pytest.approx(PUBLISHED[name], abs=0.006)  # resnet101's 1.135 is known as 1.13


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_torch_counts_what_it_counts_for_the_published_code(name: str) -> None:
    published = pytest.importorskip("antialiased_cnns")
    theirs = getattr(published, name)(filter_size=4).eval().to("meta")
    with torch.device("meta"):
        ours = az.create_model(name, filter_size=4).eval()
    size = (1, 3, 224, 224)
    assert cost_of(ours, size).multiply_adds == cost_of(theirs, size).multiply_adds
    assert f"| {name} | {cost_of(ours, size).multiply_adds / 1e6:,.1f} |" in PAGE.read_text()


def test_the_sites_add_up_to_the_published_network() -> None:
    with torch.device("meta"):
        net, blurred = (az.create_model("resnet18", filter_size=k).eval() for k in (None, 4))
    plan = az.plan(net, input_size=(1, 3, 224, 224), stem_pool="max2")
    assert plan.totals is not None
    assert plan.totals.before == cost_of(net, (1, 3, 224, 224))
    assert plan.totals.after.multiply_adds == cost_of(blurred, (1, 3, 224, 224)).multiply_adds
    assert plan.totals.multiply_adds_ratio == pytest.approx(1.29, abs=0.005)
    sums = [sum(getattr(site.extra, name) for site in plan.treated) for name in ("multiply_adds", "activation_bytes")]
    assert Cost(*sums) == plan.totals.after - plan.totals.before
    assert all(site.extra is None for site in plan.skipped)


def test_a_convolution_by_hand() -> None:
    """8 channels, 16x16 to 8x8: three quarters of the dense convolution and a 3x3 blur are added."""
    net = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False), nn.ReLU())
    plan = az.plan(net, input_size=(2, 8, 16, 16), filter_size=3, pad_type="zero", stem_stride=1)
    (site,) = plan.sites
    assert plan.totals is not None
    assert site.extra is not None
    terms = 8 * 8 * 9 * 2  # of one place, in a batch of two
    assert plan.totals.before.multiply_adds == terms * 64
    assert site.extra.multiply_adds == terms * (256 - 64) + 2 * 8 * 9 * 64
    # Kept, in float32: the input and the ReLU's output; now that output is dense, and the blur keeps its padded copy.
    assert plan.totals.before.activation_bytes == 4 * 2 * 8 * (256 + 64)
    assert site.extra.activation_bytes == 4 * 2 * 8 * (256 - 64 + 18 * 18)


def test_a_max_pool_by_hand() -> None:
    """Indices of 64 bits are kept, of the 8x8 or of the dense 15x15 maximum, and the blur's padded copy."""
    net = nn.MaxPool2d(2)
    plan = az.plan(nn.Sequential(nn.Conv2d(3, 8, 1), net), input_size=(1, 3, 16, 16), filter_size=3, pad_type="zero")
    (site,) = plan.sites
    assert site.extra is not None
    assert site.extra.multiply_adds == 8 * 9 * 64
    assert site.extra.activation_bytes == 8 * (8 * (15 * 15 - 64) + 4 * 17 * 17)


def test_a_frozen_half_precision_model_costs_half_the_bytes() -> None:
    net = torchvision.models.squeezenet1_1()
    full = az.plan(net, input_size=(1, 3, 64, 64)).totals
    half = az.plan(net.half().requires_grad_(False), input_size=(1, 3, 64, 64)).totals
    assert full is not None
    assert half is not None
    assert half.after.multiply_adds == full.after.multiply_adds
    assert 0.5 < half.after.activation_bytes / full.after.activation_bytes < 0.65  # indices stay 64 bits long


def test_graph_plans_cost_what_they_do() -> None:
    net = torchvision.models.squeezenet1_1()
    plain, graph = (az.plan(net, input_size=(1, 3, 64, 64), graph=graph).totals for graph in (False, True))
    assert plain == graph


class Summed(nn.Module):
    """Two branches with one blur behind their sum; with ``twice``, one convolution is called twice."""

    def __init__(self, twice: bool) -> None:
        super().__init__()
        self.one, self.act = nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.ReLU()
        self.other = self.one if twice else nn.Conv2d(8, 8, 3, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.one(x) + self.other(x.flip(3) if self.other is self.one else x))


@pytest.mark.parametrize("twice", [False, True])
def test_convolutions_that_need_each_other_are_counted_together(twice: bool) -> None:
    plan = az.plan(Summed(twice), input_size=(1, 8, 16, 16), filter_size=3, stem_stride=1, graph=twice)
    first, second = plan.treated
    assert (first.extra is None, second.extra) == (False, None)
    blurs = len({site.placement for site in plan.treated})
    assert first.extra is not None
    assert first.extra.multiply_adds == 2 * 8 * 8 * 9 * (256 - 64) + blurs * 8 * 9 * 64


class ByValue(nn.Module):
    """Cannot be traced, nor run without values."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x) if x.sum() >= 0 else x


class ByShape(ByValue):
    """Cannot be traced, but runs without values."""

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x) if x.shape[2] > 4 else x


@pytest.mark.parametrize(("net", "noted"), [(ByValue(), True), (ByShape(), False)])
def test_models_that_cannot_be_traced_have_costs_too(net: nn.Module, noted: bool) -> None:
    plan = az.plan(net, input_size=(1, 8, 16, 16), filter_size=3)
    (site,) = plan.treated
    assert site.extra is not None
    assert site.extra.multiply_adds == 8 * 8 * 9 * (256 - 64) + 8 * 9 * 64
    assert any(note.startswith("costs: run on zeros") for note in plan.notes) is noted


def test_the_model_is_left_alone_and_the_table_shows_the_costs() -> None:
    net = torchvision.models.resnet18()
    before = {name: (id(tensor), tensor.clone()) for name, tensor in net.state_dict(keep_vars=True).items()}
    shown = repr(net)
    plan = az.plan(net, input_size=(1, 3, 224, 224))
    assert repr(net) == shown
    assert net.training
    for name, tensor in net.state_dict(keep_vars=True).items():
        assert id(tensor) == before[name][0]
        assert torch.equal(tensor, before[name][1])
    lines = str(plan).splitlines()
    assert "+multiply-adds" in lines[0]
    assert "175.01 M" in next(line for line in lines if line.startswith("layer2.0.conv1"))
    assert lines[-1].startswith("input 1x3x224x224: multiply-adds 1.81 G -> 2.34 G (1.29 times)")
    assert "+multiply-adds" not in str(az.plan(net))


@pytest.mark.parametrize("size", [(), (1, 3, 0, 8), (1, 3, 8.5, 8)])
def test_an_input_size_is_a_shape(size: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="input_size"):
        az.plan(nn.MaxPool2d(2), input_size=size)


def test_a_size_that_the_model_does_not_take_is_named() -> None:
    with pytest.raises(ValueError, match="Sequential does not run on one input of 1x4x8x8 zeros: RuntimeError"):
        az.plan(nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2)), input_size=(1, 4, 8, 8))
