"""The survey's checks on a dozen networks that span families and rules; the whole survey is docs/coverage.md."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from coverage_checks import check
from strided_ops import StridedOp, strided_ops
from survey import IMAGES, checked, networks
from torch import Tensor, nn

from antialiased_zoo import planner


@pytest.mark.parametrize(
    ("name", "form", "reason"),
    [
        ("torchvision:googlenet", "modules", "reads the image"),
        ("torchvision:mobilenet_v3_small", "modules", "reads the image"),
        ("torchvision:regnet_y_400mf", "modules", "reads the image"),
        ("torchvision:shufflenet_v2_x0_5", "modules", "reads the image"),  # no nonlinearity after a strided convolution
        ("torchvision:squeezenet1_1", "modules", "reads the image"),  # ceil_mode
        ("torchvision:swin_t", "unchanged", "transformer"),
        ("timm:dla46x_c", "modules", ""),  # one downsampling for several readers
        ("timm:efficientnet_cc_b0_4e", "graph", "reads the image"),  # convolutions by function, with mixed weights
        ("timm:ghostnet_100", "modules", "reads the image"),
        ("timm:mobileone_s0", "modules", "reads the image"),  # parallel branches
        ("timm:mobilevit_xxs", "modules", "reads the image"),  # parts that cannot be traced
        ("timm:nf_regnet_b0", "modules", "reads the image"),  # standardised weights
        ("timm:res2net50_14w_8s", "graph", "reads the image"),  # one activation module in many places
        ("timm:resnetblur18", "modules", "fixed filter"),  # blurs that are there already
        ("timm:tf_mobilenetv3_small_100", "modules", "reads the image"),  # "SAME" padding
    ],
)
def test_a_network_keeps_every_promise(name: str, form: str, reason: str) -> None:
    found = checked(name)
    assert found.right, found.faults
    assert found.form == form
    assert any(reason in skipped for skipped in found.skipped) or not reason
    assert (found.identity is None) == (form == "unchanged")


def test_the_survey_has_the_networks_that_it_is_about() -> None:
    names = [name for name, *_ in networks()]
    assert len(set(names)) == len(names)
    assert sum(name.startswith("torchvision:") for name in names) >= 80
    assert sum(name.startswith("timm:") for name in names) >= 100


class Downward(nn.Module):
    """One of each op that the recorder knows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(3, 4, 3, (1, 2)), nn.ConvTranspose2d(4, 4, 2, 2)
        self.inner = nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(3, 2), nn.AdaptiveAvgPool2d(5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(self.up(self.conv(x)))
        x = F.interpolate(F.interpolate(x, scale_factor=4), size=(9, 20))[..., ::3, :]
        x = F.interpolate(x, size=(2, 2), mode="bilinear", antialias=True)  # low-pass filters
        return F.adaptive_avg_pool2d(F.pixel_unshuffle(x, 2), 1)


def test_the_recorder_sees_what_strides_and_where() -> None:
    _, found = strided_ops(Downward(), torch.randn(1, 3, 40, 40))
    assert found == {
        StridedOp("conv", "conv", (1, 2)): 1,
        StridedOp("inner.0", "maxpool", (2, 2)): 1,
        StridedOp("inner.1", "avgpool", (2, 2)): 1,
        StridedOp("inner.2", "adaptive", ()): 1,
        StridedOp("", "resize", ()): 1,
        StridedOp("", "slice", (3,)): 1,
        StridedOp("", "unshuffle", (2, 2)): 1,
    }


class Hidden(nn.Module):
    """Pools by an operator that no rule knows."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.aten.avg_pool2d(x, [2, 2], [2, 2])


def test_the_checks_find_an_op_that_the_plan_does_not_name() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), Hidden())
    found = check("hidden", lambda: net, IMAGES)
    assert found.unlisted == ["StridedOp(path='2', kind='avgpool', stride=(2, 2))"]
    assert found.still_striding == found.unlisted
    assert len(found.faults) == 2


class SameConv(nn.Conv2d):
    """Pads after the map at even sizes, before and after it at odd ones."""

    def forward(self, x: Tensor) -> Tensor:
        before = [0 if n % 2 == 0 and self.stride[0] == 2 else 1 for n in x.shape[2:]]
        return F.conv2d(F.pad(x, (before[1], 1, before[0], 1)), self.weight, self.bias, self.stride)


def test_the_checks_find_a_blur_at_the_wrong_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), SameConv(4, 4, 3, 2), nn.ReLU())

    assert check("same", build, IMAGES).right
    monkeypatch.setattr(planner, "find_phases", lambda *_: ((0, 0), (0, 0)))
    (fault,) = check("same", build, IMAGES).faults
    assert "filter size 1 changes the outputs" in fault
