"""torch.jit.script compiles every layer, to the same values, and leaves the module as it is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

import antialiased_zoo as az
from antialiased_zoo.layers import OffsetDownsample, SamePadConv2d

torch.manual_seed(0)
LAYERS = {
    "reflect": az.Downsample(4, filt_size=5),
    "replicate": az.Downsample(4, "replicate", 7, stride=3, pad_off=2),
    "zero": az.Downsample(pad_type="zero", filt_size=3, stride=(2, 1)),
    "subsample": az.Downsample(filt_size=1),
    "1d": az.Downsample1d(4),
    "3d": az.Downsample3d(4, stride=(1, 2, 2)),
    "max": az.MaxBlurPool2d(3, padding=1),
    "max ceil": az.MaxBlurPool2d((3, 2), stride=3, dilation=(1, 2), ceil_mode=True),
    "average": az.AvgBlurPool2d(2),
    "average of more than the blur": az.AvgBlurPool2d(6, 3, stride=3, padding=1, ceil_mode=True),
    "offset": OffsetDownsample(((1, 0), (1, 0)), (2, 2)),
    "offset of three": OffsetDownsample(((1, 0, 2), (0, 1, 2)), (3, 3)),
    "same": SamePadConv2d(4, 3, 3, 2),
    "same, dense": SamePadConv2d(4, 3, 5),
    "upsample": az.BlurUpsample(4),
    "upsample 1d": az.BlurUpsample1d(4, "zero", 5, stride=3),
    "upsample 3d": az.BlurUpsample3d(4, filt_size=3),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_scripts(name: str) -> None:
    layer = LAYERS[name]
    scripted = torch.jit.script(layer)
    for size in ((16, 15, 13), (9, 8, 12), (7, 14, 10)):
        x = torch.randn(2, 4, *size[: getattr(layer, "ndim", 2)])
        for images in (x, x[0]):
            torch.testing.assert_close(scripted(images), layer(images))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_traced_for_all_sizes(name: str, dtype: torch.dtype) -> None:
    layer = copy.deepcopy(LAYERS[name]).to(dtype)
    axes = getattr(layer, "ndim", 2)
    traced = torch.jit.trace(layer, torch.randn(1, 4, *(17, 15, 16)[:axes], dtype=dtype), check_trace=False)
    for size in ((17, 15, 16), (16, 16, 13), (12, 13, 21), (21, 18, 9), (14, 22, 10)):
        x = torch.randn(2, 4, *size[:axes], dtype=dtype)
        torch.testing.assert_close(traced(x), layer(x))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("size", [1, 2, 3])
def test_what_is_traced_on_a_map_smaller_than_its_padding_is_right_on_larger_ones(size: int) -> None:
    layer = az.Downsample(4, filt_size=7)
    traced = torch.jit.trace(layer, torch.randn(1, 4, size, size), check_trace=False)
    for other in (1, 2, 5, 8):
        x = torch.randn(1, 4, other, other + 1)
        torch.testing.assert_close(traced(x), layer(x))


def test_what_has_no_average_is_refused() -> None:
    for layer in (LAYERS["reflect"], LAYERS["max"]):
        with pytest.raises(torch.jit.Error, match="floating-point"):
            torch.jit.script(layer)(torch.ones(1, 4, 8, 8, dtype=torch.int64))


@pytest.mark.parametrize(
    "name", ["resnet18", pytest.param("densenet121", marks=pytest.mark.slow), "efficientnet_lite0"]
)
def test_a_network_scripts_and_stays_as_it_is(name: str) -> None:
    net = az.create_model(name, num_classes=3).eval()
    mine = nn.Sequential(net)  # torch would put a copy of another class into its place
    before, modules = repr(net), copy.copy(dict(mine.named_modules()))
    x = torch.randn(1, 3, 65, 64)
    torch.testing.assert_close(torch.jit.script(mine)(x), net(x), rtol=1e-4, atol=1e-5)
    assert repr(net) == before
    assert dict(mine.named_modules()) == modules
    assert net.config_to_save().model == name  # which compares its blurs with those it was built with


def test_what_torchvisions_forward_does_not_do_is_refused() -> None:
    net = az.create_model("resnet18")
    net.reset_classifier(3, "max")
    with pytest.raises(ValueError, match="global_pool='avg'"):
        torch.jit.script(net)
    with pytest.raises(ValueError, match=r"feature maps: use torch\.jit\.trace"):
        torch.jit.script(az.backbone_with_fpn("resnet18"))


def test_a_detector_scripts_on_torchvisions_backbone() -> None:
    backbone = az.antialias_(resnet_fpn_backbone(backbone_name="resnet18", weights=None))
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(torch.jit.script(backbone.eval())(x), backbone(x), rtol=1e-4, atol=1e-5)


def test_a_blur_of_a_single_pixel_reflects_it() -> None:
    x = torch.randn(1, 4, 1, 2)
    torch.testing.assert_close(torch.jit.script(nn.Sequential(az.Downsample(4)))(x), az.Downsample(4)(x))
