"""What the plan leaves alone, and the reason that it gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antialiased_zoo as az


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        (nn.MaxPool2d(2, return_indices=True), "maxpool"),
        (nn.FractionalMaxPool2d(2, output_ratio=0.5), "fractional"),
        (nn.AvgPool2d(2, divisor_override=1), "avgpool"),
    ],
)
def test_pools_that_no_blur_can_stand_for_are_left_with_the_reason(op: nn.Module, kind: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), op)
    (site,) = az.plan(net).sites
    assert (site.kind, site.placement, bool(site.reason)) == (kind, None, True)
    with pytest.warns(UserWarning, match="left to antialias"):
        assert repr(az.antialias(net)) == repr(net)


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        (nn.AdaptiveAvgPool2d(3), "adaptive"),
        (nn.AdaptiveMaxPool2d((None, 2)), "adaptive"),
        (nn.Upsample(scale_factor=0.5), "resize"),
        (nn.Upsample(size=(9, 9)), "resize"),
        (nn.PixelUnshuffle(2), "unshuffle"),
        (nn.Unfold(2, stride=2), "unshuffle"),
    ],
)
def test_what_cannot_be_blurred_is_reported(op: nn.Module, kind: str) -> None:
    (site,) = az.plan(nn.Sequential(nn.Conv2d(3, 4, 3), op)).sites
    assert (site.kind, site.placement) == (kind, None)
    assert site.reason


@pytest.mark.parametrize(
    "op", [nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d((None, 1)), nn.Upsample(scale_factor=2), nn.Unfold(3)]
)
def test_what_does_not_subsample_is_not_reported(op: nn.Module) -> None:
    assert not az.plan(nn.Sequential(nn.Conv2d(3, 4, 3), op)).sites


class Standardised(nn.Conv2d):
    """A convolution with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, self.stride[0] - 1, 0, self.stride[0] - 1)))


def test_a_forward_of_its_own_is_not_guessed_at() -> None:
    (site,) = az.plan(nn.Sequential(nn.Conv2d(3, 3, 1), Standardised(3, 4, 3, 2), nn.ReLU())).sites
    assert site.placement is None
    assert "Standardised has its own forward" in site.reason


class ReadsValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, 2), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) if x.sum() < 1e9 else x


def test_a_part_that_cannot_be_traced_reads_the_image_only_where_it_is_first() -> None:
    later = nn.Sequential(nn.Conv2d(3, 4, 3), ReadsValues())
    assert str(az.plan(later).sites[0].placement) == "after 1.block.1"
    assert az.plan(ReadsValues()).sites[0].reason.startswith("reads the image")


def test_patches_of_a_transformer_are_left_alone() -> None:
    encoder = nn.TransformerEncoderLayer(8, 2, batch_first=True)
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Flatten(2), encoder)
    with pytest.warns(UserWarning, match="left to antialias"):
        mine = az.antialias(net)
    assert "transformer" in az.plan(net).sites[0].reason
    assert repr(mine) == repr(net)


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


def test_a_name_does_not_make_a_transformer() -> None:
    stem = [nn.Conv2d(3, 16, 4, 4), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3)]
    placements = {str(az.plan(nn.Sequential(*stem, *more)).sites[0].placement) for more in ([], [Attention()])}
    assert placements == {"after 2"}


class ReadTwice(nn.Module):
    """A convolution whose map is read before its nonlinearity too, perhaps in training only."""

    def __init__(self, always: bool) -> None:
        super().__init__()
        self.always, self.down, self.act = always, nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()
        self.head, self.aux = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        before = self.down(x)
        out = self.head(self.act(before))
        return (out, self.aux(before)) if self.always or self.training else (out,)


@pytest.mark.parametrize(
    ("always", "reason"),
    [
        (True, "right after the convolution: ReLU is not the only op that reads the map"),
        (False, "right after the convolution: what follows it depends on the mode or on optional arguments"),
    ],
)
def test_a_second_reader_is_the_reason(always: bool, reason: str) -> None:
    for mode in (False, True):
        (site,) = az.plan(ReadTwice(always).train(mode), stem_stride=1).sites
        assert (str(site.placement), site.reason) == ("after down", reason)
