"""The copy for inference against the model that it was made of."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import antialiased_zoo as az


def trained(name: str) -> nn.Module:
    """A network whose batch norms have statistics to speak of."""
    torch.manual_seed(0)
    model = az.create_model(name, num_classes=10)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
    return model.eval()


LARGE = pytest.param("vgg11_bn", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121", LARGE, "alexnet"])
def test_outputs_agree(name: str) -> None:
    model = trained(name)
    before = copy.deepcopy(model.state_dict())
    quick = az.for_inference(model)
    x = torch.randn(2, 3, 65, 64)
    with torch.inference_mode():
        expected = model(x)
        assert (quick(x) - expected).abs().max() <= 1e-4 * expected.abs().max()
        layout = x.contiguous(memory_format=torch.channels_last)
        assert (quick(layout) - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert not quick.training
    assert not any(parameter.requires_grad for parameter in quick.parameters())
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_every_norm_behind_a_convolution_is_folded() -> None:
    left = [type(module).__name__ for module in az.for_inference(trained("resnet18")).modules()]
    assert "BatchNorm2d" not in left
    assert left.count("Downsample") == 6


def test_a_norm_whose_input_another_reads_stays() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            return self.norm(x) + x

    model = Both().eval()
    model.norm.running_mean.normal_()
    x = torch.randn(1, 3, 8, 8)
    quick = az.for_inference(model)
    assert isinstance(quick.norm, nn.BatchNorm2d)
    torch.testing.assert_close(quick(x), model(x).detach())


def test_a_hooked_convolution_stays() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)).eval()
    model[0].register_forward_hook(lambda module, args, output: output.relu())
    model[1].running_mean.normal_()
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(az.for_inference(model)(x), model(x).detach())


def test_a_convolution_whose_hook_computes_its_weight_stays() -> None:
    model = nn.Sequential(torch.nn.utils.spectral_norm(nn.Conv2d(3, 3, 3)), nn.BatchNorm2d(3)).eval()
    model[1].running_mean.normal_()
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(az.for_inference(model)(x), model(x).detach())


@pytest.mark.parametrize("method", ["forward", "_conv_forward"])
def test_a_convolution_with_a_method_of_its_own_stays(method: str) -> None:
    model = nn.Sequential(conv := nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)).eval()
    setattr(conv, method, lambda x, *_: torch.nn.functional.conv2d(x, 2 * conv.weight))
    model[1].running_mean.normal_()
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(az.for_inference(model)(x), model(x).detach())


def test_of_a_compiled_network_the_module_inside_is_copied() -> None:
    model = trained("resnet18")
    quick = az.for_inference(torch.compile(model))
    assert isinstance(quick, type(model))
    assert isinstance(quick.bn1, nn.Identity)
