"""EfficientNet-Lite against timm holding the same tensors, plain and antialiased."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F

import antialiased_zoo as az
from antialiased_zoo.layers import SamePadConv2d

NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")


@torch.inference_mode()
@pytest.mark.parametrize("name", NAMES)
def test_outputs_equal_timm(name: str) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(f"tf_{name}").eval()
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():  # so that no map dies away on the way
            tensor.copy_(torch.rand_like(tensor) * 0.2 - 0.05 if tensor.dim() > 1 else torch.rand_like(tensor) + 0.5)
    tensors = theirs.state_dict().values()
    antialiased = az.antialias(theirs, 4)
    for filter_size, peer in ((None, theirs), (4, antialiased)):
        ours = az.create_model(name, filter_size).eval()
        ours.load_state_dict(dict(zip(ours.state_dict(), tensors, strict=True)))
        for size in ((96, 96), (97, 75)):  # odd sizes pad otherwise
            image = torch.randn(2, 3, *size)
            expected = peer(image)
            assert expected.std() > 0.1
            assert (ours(image) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_stem_is_kept_and_four_convolutions_are_blurred() -> None:
    model = az.efficientnet_lite0(4)
    assert model.features[0][0].stride == (2, 2)
    blurred = [name for name, _ in model.named_modules() if name.endswith("blur_after")]
    assert blurred == [f"features.{block}.conv.1.2.blur_after" for block in (2, 4, 6, 12)]


@pytest.mark.parametrize("size", [7, 8, 9])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (3, 1, 2), (1, 2, 1), (2, 3, 1)])
def test_same_padding_is_tensorflows(kernel: int, stride: int, dilation: int, size: int) -> None:
    conv = SamePadConv2d(2, 3, kernel, stride, dilation=dilation)
    image = torch.randn(1, 2, size, size)
    out = -(-size // stride)
    total = max(0, (out - 1) * stride + (kernel - 1) * dilation + 1 - size)
    padded = F.pad(image, (total // 2, total - total // 2) * 2)
    expected = F.conv2d(padded, conv.weight, conv.bias, stride, 0, dilation)
    assert expected.shape[2:] == (out, out)
    torch.testing.assert_close(conv(image), expected)


def test_the_builders_keywords() -> None:
    model = az.efficientnet_lite2(num_classes=7, dropout=0.5, norm_layer=torch.nn.InstanceNorm2d)
    assert model.classifier[0].p == 0.5
    assert model.classifier[1].out_features == 7
    assert isinstance(model.features[0][1], torch.nn.InstanceNorm2d)
