"""The modules: the functions' twins, and what a module adds (buffers, state dicts, checks)."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import antialiased_zoo as az
from antialiased_zoo.layers.functional import blur_pool2d, max_blur_pool2d

X = torch.randn(2, 6, 11, 14)


@pytest.mark.parametrize("filt_size", [1, 2, 3, 4, 5, 6, 7])
def test_modules_agree_with_functions(filt_size: int) -> None:
    for pad_type in ("reflect", "repl", "zero"):
        for stride in (1, 2, (1, 2), (3, 2)):
            blur = az.Downsample(6, pad_type, filt_size, stride, pad_off=1)
            assert torch.equal(blur(X), blur_pool2d(X, filt_size, stride, pad_type, pad_off=1))
            pool = az.MaxBlurPool2d(3, filt_size, stride, 1, 1, True, pad_type)
            assert torch.equal(pool(X), max_blur_pool2d(X, 3, filt_size, stride, 1, 1, True, pad_type))


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("filt_size", [1, 4, (1.0, 2.0, 4.0)])
def test_twins_in_every_dimension(ndim: int, filt_size: int | tuple[float, ...]) -> None:
    x = torch.randn(2, 3, *(8, 9, 7)[:ndim])
    wide = isinstance(filt_size, int)
    down = (az.Downsample1d, az.Downsample, az.Downsample3d)[ndim - 1]
    for pad_type, dense in (("reflect", False), ("zero", True)):
        layer, function = down(3, pad_type, filt_size, 4, 1, wide, dense), getattr(az, f"blur_pool{ndim}d")
        assert torch.equal(layer(x), function(x, filt_size, 4, pad_type, 1, wide, dense))
    for kind, arguments in (("max", (3, filt_size, 4, 1, 1, True)), ("avg", (3, filt_size, 4, 1, True))):
        layer = getattr(az, f"{kind.title()}BlurPool{ndim}d")(*arguments, "repl", wide)
        function = getattr(az, f"{kind}_blur_pool{ndim}d")
        assert torch.equal(layer(x), function(x, *arguments, "repl", wide))
        assert torch.equal(layer(x[0]), layer(x)[0])
        torch.testing.assert_close(layer.double()(x.double()), function(x.double(), *arguments, "repl", wide))


def test_blurpool_is_downsample() -> None:
    assert az.BlurPool is az.Downsample


def test_no_tensor_reaches_the_state_dict() -> None:
    assert az.Downsample(6).state_dict() == {}
    assert az.MaxBlurPool2d(2).state_dict() == {}


def test_kernel_follows_dtype_and_survives_to_empty() -> None:
    layer = az.Downsample(6)
    assert layer.half().kernel.dtype == torch.float16
    with torch.device("meta"):
        empty = nn.Sequential(nn.Conv2d(6, 6, 1), az.Downsample(6)).to_empty(device="cpu")
    assert torch.equal(empty[1](X), az.Downsample(6)(X))
    on_meta = az.Downsample(6).to("meta").to_empty(device="cpu").double()
    torch.testing.assert_close(on_meta.kernel, az.Downsample(6).kernel.double())


def test_copies_and_pickles() -> None:
    for layer in (az.Downsample(6, stride=(2, 1)), az.MaxBlurPool2d(3, padding=1)):
        stored = io.BytesIO()
        torch.save(layer, stored)
        stored.seek(0)
        for twin in (copy.deepcopy(layer), torch.load(stored, weights_only=False)):
            assert torch.equal(twin(X), layer(X))


def test_repr_says_what_it_is() -> None:
    assert repr(az.Downsample(64)) == "Downsample(64, filt_size=4, stride=2, reflect)"
    assert "kernel_size=(2, 2)" in repr(az.MaxBlurPool2d(2))
    wide = "Downsample1d(8, filt_size=3, stride=4, zero, pad_off=1, wide=True, dense=True)"
    assert repr(az.Downsample1d(8, "zero", 3, 4, 1, True, True)) == wide
    own = "filt_size=(0.3333, 0.6667)"
    for layer in (az.Downsample(filt_size=[1, 2]), az.MaxBlurPool2d(2, [1, 2]), az.AvgBlurPool2d(2, [1, 2])):
        assert own in repr(layer)


@pytest.mark.parametrize("channels", [0, -3, 2.0])
def test_bad_channels(channels: object) -> None:
    with pytest.raises(ValueError, match="channels must be a positive integer"):
        az.Downsample(channels)


@pytest.mark.parametrize("layer", [az.Downsample, az.BlurUpsample])
@pytest.mark.parametrize("channels", [4, 8])
def test_other_channels_are_blurred_alike(layer: Any, channels: int) -> None:
    """As after pruning: the result is the function's, in TorchScript too."""
    made, function = layer(channels), {az.Downsample: az.blur_pool2d, az.BlurUpsample: az.blur_upsample2d}[layer]
    torch.testing.assert_close(made(X), function(X))
    torch.testing.assert_close(torch.jit.script(made)(X), function(X))


@pytest.mark.parametrize("move", [nn.Module.float, lambda net: net.to("cpu"), nn.Module.double])
def test_a_layer_made_or_moved_in_inference_mode_trains_later(move: Callable[[nn.Module], nn.Module]) -> None:
    layers = [az.Downsample(6), az.MaxBlurPool2d(2)]
    with torch.inference_mode():
        layers += [az.Downsample(6), az.MaxBlurPool2d(2)]
        for layer in layers:
            move(layer)
    for layer in layers:
        x = X.to(layer.kernel.dtype, copy=True).requires_grad_()
        layer(x).sum().backward()
        assert x.grad.shape == x.shape


@pytest.mark.parametrize("layer", [az.Downsample(6), az.MaxBlurPool2d(2)])
def test_compiles_without_a_graph_break(layer: nn.Module) -> None:
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in ((11, 14), (8, 9), (20, 5)):
        x = torch.randn(2, 6, *size, requires_grad=True)
        torch.testing.assert_close(compiled(x), layer(x))
        (grad,) = torch.autograd.grad(layer(x).square().sum(), x)
        torch.testing.assert_close(torch.autograd.grad(compiled(x).square().sum(), x)[0], grad)


def test_eager_int8_quantisation_says_what_to_use_instead() -> None:
    net = az.antialias(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2), nn.ReLU())).eval()
    quantisation = torch.ao.quantization
    net = nn.Sequential(quantisation.QuantStub(), net, quantisation.DeQuantStub())
    net.qconfig = quantisation.default_qconfig
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and the tensors have no range yet
        quantisation.convert(quantisation.prepare(net.eval(), inplace=True), inplace=True)
    with pytest.raises(TypeError, match=r"got torch.quint8: antialias first, then quantise by FX or PT2E, not eagerly"):
        net(torch.randn(1, 3, 9, 9))


@pytest.mark.parametrize("move", [lambda net: net, lambda net: net.double(), lambda net: net.to("cpu")])
def test_a_network_of_the_meta_device_is_whole_with_the_tensors_that_are_assigned(move: Any) -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 3), az.Downsample(6), az.MaxBlurPool2d(2), az.AvgBlurPool2d(2))
    net.append(az.BlurUpsample(6))
    with torch.device("meta"):
        other = copy.deepcopy(net).to("meta")
    other.load_state_dict(net.state_dict(), assign=True)
    other = move(other)
    x = torch.randn(1, 3, 33, 32, dtype=other[0].weight.dtype)
    torch.testing.assert_close(other(x), net.to(x)(x))
