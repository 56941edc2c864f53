"""Sequences that go some images at a time against the same modules, one after the other."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import antialiased_zoo as az
from antialiased_zoo.piecewise import PiecewiseSequential, in_pieces_

FORMATS = [torch.contiguous_format, torch.channels_last]


class Counter(nn.Identity):
    """Notes how many images it sees at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return x


def network(norm: nn.Module | None = None) -> nn.Sequential:
    """Its widest map has 1 MiB an image at 128x128 pixels."""
    torch.manual_seed(0)
    modules = [nn.Conv2d(3, 16, 3, padding=1), norm or nn.BatchNorm2d(16), nn.ReLU(), Counter(), nn.MaxPool2d(2)]
    model = nn.Sequential(nn.Sequential(*modules, nn.Conv2d(16, 8, 3), Counter()))
    az.antialias_(model)
    in_pieces_(model)
    return model.eval()


def images(count: int = 10, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    return torch.randn(count, 3, 128, 128).contiguous(memory_format=memory_format)


def plainly(model: nn.Module, x: Tensor) -> Tensor:
    """The value without pieces."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if type(module) is PiecewiseSequential:
            module.__class__ = nn.Sequential
    return model(x)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_large_maps_go_some_images_at_a_time(memory_format: torch.memory_format) -> None:
    model, x = network(), images(10, memory_format)
    with torch.inference_mode():
        y = model(x)
        torch.testing.assert_close(y, plainly(model, x), rtol=1e-5, atol=1e-6)
    assert y.is_contiguous(memory_format=memory_format)
    assert model[0][3].seen == [8, 2]  # 8 MiB at a time
    assert model[0][6].seen == [10]  # the small map goes whole


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn", "densenet121", "mobilenet_v2"])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_networks_of_the_zoo_agree(name: str, memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    model = az.create_model(name, num_classes=10).eval()
    assert any(type(module) is PiecewiseSequential for module in model.modules())
    x = torch.randn(9, 3, 161, 129).contiguous(memory_format=memory_format)
    seen: list[int] = []
    with torch.inference_mode():
        expected = plainly(model, x)
        inner = next(module for module in model.modules() if isinstance(module, nn.ReLU | nn.ReLU6))
        inner.forward = lambda x, forward=inner.forward: (seen.append(len(x)), forward(x))[1]  # no hook: those are seen
        assert (model(x) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert len(seen) > 1
    assert sum(seen) == 9


def hooked(model: nn.Module) -> None:
    model[0][2].register_forward_hook(lambda *_: None)


def half_trained(model: nn.Module) -> None:
    model[0][1].train()


def by_batch(model: nn.Module) -> None:
    model[0][1] = nn.BatchNorm2d(16, track_running_stats=False).eval()


def unknown(model: nn.Module) -> None:
    class Mixing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(0)

    model[0][2] = Mixing().eval()


@pytest.mark.parametrize("change", [nn.Module.train, hooked, half_trained, by_batch, unknown])
def test_goes_whole_where_pieces_could_be_told_from_it(change: Callable[[nn.Module], object]) -> None:
    model, x = network(), images()
    change(model)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), plainly(model, x))
    assert model[0][3].seen == [10]


def test_goes_whole_where_gradients_are_recorded() -> None:
    model, x = network(), images()
    model(x).sum().backward()
    assert model[0][3].seen == [10]
    assert model[0][0].weight.grad is not None


def test_goes_whole_under_a_global_hook() -> None:
    model = network()
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        with torch.inference_mode():
            model(images())
    finally:
        handle.remove()
    assert model[0][3].seen == [10]


def test_survives_copies_pickles_and_state_dicts() -> None:
    model = network(nn.Identity())
    keys = ["0.0.weight", "0.0.bias", "0.5.weight", "0.5.bias"]
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(twin[0]) is PiecewiseSequential
        assert list(twin.state_dict()) == list(model.state_dict()) == keys


def test_can_be_traced() -> None:
    model = az.mobilenet_v2(num_classes=10).eval()
    x = torch.randn(8, 3, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), model(x), rtol=1e-5, atol=1e-6)
