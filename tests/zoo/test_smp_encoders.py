"""Encoders of segmentation_models_pytorch that are no ResNets, antialiased in place."""

from __future__ import annotations

import pytest
import torch

import antialiased_zoo as az

smp = pytest.importorskip("segmentation_models_pytorch")


@torch.no_grad()
@pytest.mark.parametrize(("name", "strided"), [("mobilenet_v2", 4), ("vgg11", 5)])
def test_its_blurs_are_placed_and_names_and_sizes_stay(name: str, strided: int) -> None:
    torch.manual_seed(0)
    encoder = smp.encoders.get_encoder(name, weights=None).eval()
    image = torch.rand(1, 3, 64, 96)
    before, names = [x.shape for x in encoder(image)], list(encoder.state_dict())
    az.antialias_(encoder, filter_size=4)
    assert [x.shape for x in encoder(image)] == before
    assert list(encoder.state_dict()) == names
    blurs = [module for module in encoder.modules() if isinstance(module, (az.Downsample, az.MaxBlurPool2d))]
    assert len(blurs) == strided  # all but a convolution that reads the image


def test_what_is_not_offered_is_said() -> None:
    encoder = smp.encoders.get_encoder("efficientnet-b0", weights=None)
    with pytest.warns(UserWarning, match="nothing in EfficientNetEncoder was left to antialias"):
        az.antialias_(encoder, filter_size=4)  # two readers behind an activation that is a function
    assert "modules alone cannot hold a blur" in str(az.plan(encoder))
