"""The survey's checks on a dozen networks that span families and rules; the whole survey is docs/coverage.md."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coverage_checks import check
from feature_checks import Distances, distances, read
from PIL import Image
from strided_ops import StridedOp, strided_ops
from survey import IMAGES, checked, distance_table, distance_totals, networks, totals
from torch import Tensor, nn

from antialiased_zoo.transform import conv_placement, op_table

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "form", "reason"),
    [
        ("torchvision:googlenet", "modules", "reads the image"),
        ("torchvision:mobilenet_v3_small", "modules", "reads the image"),
        ("torchvision:shufflenet_v2_x0_5", "modules", "reads the image"),  # no nonlinearity after a strided convolution
        ("torchvision:squeezenet1_1", "modules", "reads the image"),  # ceil_mode
        ("torchvision:swin_t", "unchanged", "transformer"),
        # frozen batch norms
        pytest.param("frozen:retinanet_resnet50_fpn", "modules", "reads the image", marks=pytest.mark.slow),
        ("timm:dla46x_c", "modules", ""),  # one downsampling for several readers
        # convolutions by function, with mixed weights
        pytest.param("timm:efficientnet_cc_b0_4e", "graph", "reads the image", marks=pytest.mark.slow),
        ("timm:ghostnet_100", "modules", "reads the image"),
        pytest.param("timm:mobileone_s0", "modules", "reads the image", marks=pytest.mark.slow),  # parallel branches
        # parts that cannot be traced
        pytest.param("timm:mobilevit_xxs", "modules", "reads the image", marks=pytest.mark.slow),
        # standardised weights
        pytest.param("timm:nf_regnet_b0", "modules", "reads the image", marks=pytest.mark.slow),
        # one activation module in many places
        pytest.param("timm:res2net50_14w_8s", "graph", "reads the image", marks=pytest.mark.slow),
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


def test_the_checks_find_an_op_that_the_plan_does_not_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(op_table._BY_FUNCTION, "avg_pool2d")
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
    monkeypatch.setattr(conv_placement, "offsets_of_call", lambda *_: ((0, 0), (0, 0)))
    (fault,) = check("same", build, IMAGES).faults
    assert "filter size 1 changes the outputs" in fault


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    path, generator = tmp_path / "photos.zip", np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(9):
            image = Image.fromarray(generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)).resize((150, 120))
            image.save(content := io.BytesIO(), "JPEG")
            archive.writestr(f"{index}.jpeg", content.getvalue())
    return path


def test_the_distance_falls_after_each_downsampling(photos: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1)),
        )

    assert read(photos).shape == (4, 3, 96, 96)
    found = distances("small", build, photos)
    assert list(found.layers) == ["2", "5"]
    assert found.risen == []
    assert all(0 < after < before < 1 for before, after in found.layers.values())
    assert distances("none", lambda: nn.Sequential(nn.Conv2d(3, 4, 3)), photos).layers == {}


def test_the_table_shows_where_a_distance_does_not_fall() -> None:
    layers = {"a": (0.5, 0.25), "b": (0.25, 0.5)}
    found = Distances("net", layers)
    assert found.risen == ["b"]
    assert distance_table({"net": dataclasses.asdict(found)}).splitlines()[-1] == (
        "| net | 2 | 1 | 0.3750 -> 0.3750 | 0.2500 -> 0.5000 | b 0.2500 -> 0.5000 |"
    )


@pytest.mark.parametrize(
    ("mark", "file", "lines"), [("totals", "coverage", totals), ("distance", "distance", distance_totals)]
)
def test_the_page_shows_what_the_survey_found(mark: str, file: str, lines: Callable[..., list[str]]) -> None:
    found = json.loads((ROOT / "results" / "survey" / f"{file}.json").read_text())["networks"]
    shown = (ROOT / "docs" / "coverage.md").read_text().partition(f"<!-- {mark} -->")[2].partition("<!-- /")[0]
    assert shown.strip().splitlines() == lines(found)


def test_the_sentences_say_what_the_survey_found() -> None:
    found = json.loads((ROOT / "results" / "survey" / "coverage.json").read_text())["networks"]
    page = " ".join((ROOT / "docs" / "coverage.md").read_text().split())
    in_float64 = sum(result["precision"] == "float64" for result in found.values())
    assert f"rounding errors ({in_float64} of the {len(found)})" in page
    forms = [result["form"] for name, result in found.items() if name.startswith("transformers:")]
    treated = sum(form != "unchanged" for form in forms)
    assert f"{treated} of the {len(forms)} networks of `transformers` are treated" in page
    timms = sum(name.startswith("timm:") for name in found)
    scripts = " ".join((ROOT / "scripts" / "README.md").read_text().split())
    assert f"{timms} of timm's and {len(forms)} of transformers'" in scripts
