"""Blurred upsampling against SciPy, torch's interpolation, and the blur whose transpose it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import signal
from torch import Tensor

import antialiased_zoo as az
from antialiased_zoo.layers.functional import blur_pool2d, blur_upsample1d, blur_upsample2d, blur_upsample3d

MODES = {"replicate": "edge", "reflect": "reflect", "zero": "constant"}


def reference(row: np.ndarray, taps: np.ndarray, stride: int, before: int, pad_type: str) -> np.ndarray:
    """Pad, insert zeros, filter with a gain of ``stride``; cut so that the first pixel meets tap number ``before``."""
    margin = len(taps)
    padded = np.pad(row, margin, mode=MODES[pad_type])
    full = signal.upfirdn(taps * stride, padded, up=stride)
    return full[margin * stride + before :][: len(row) * stride]


@pytest.mark.parametrize("pad_type", list(MODES))
@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("filt_size", range(2, 8))
def test_equals_upfirdn(filt_size: int, stride: int, pad_type: str) -> None:
    taps = np.array([1.0])
    for _ in range(filt_size - 1):
        taps = np.convolve(taps, np.full(stride, 1 / stride))
    before = (filt_size - 1) // 2 * (stride - 1)
    for size in ((5, 8), (1, 2), (3, 1)):
        x = torch.randn(2, 2, *size, dtype=torch.float64)
        ours = blur_upsample2d(x, filt_size, stride, pad_type)
        expected = np.apply_along_axis(reference, 2, x.numpy(), taps, stride, before, pad_type)
        expected = np.apply_along_axis(reference, 3, expected, taps, stride, before, pad_type)
        torch.testing.assert_close(ours, torch.from_numpy(expected))


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_two_taps_are_nearest(stride: int) -> None:
    x = torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(blur_upsample2d(x, 2, stride), F.interpolate(x, scale_factor=stride, mode="nearest"))


def test_four_taps_are_bilinear() -> None:
    for size in ((5, 6), (1, 1), (2, 7)):
        x = torch.randn(2, 3, *size)
        torch.testing.assert_close(blur_upsample2d(x, 4), F.interpolate(x, scale_factor=2, mode="bilinear"))


@pytest.mark.parametrize("stride", [2, 3, 5])
def test_three_taps_interpolate_linearly_between_the_pixels(stride: int) -> None:
    row = np.random.default_rng(0).normal(size=7)
    places = np.arange(7 * stride) / stride
    expected = np.interp(places, np.arange(7), row)  # constant past the last pixel, as replicate padding is
    ours = blur_upsample1d(torch.from_numpy(row)[None], 3, stride)
    torch.testing.assert_close(ours[0], torch.from_numpy(expected))


@pytest.mark.parametrize("taps", [*range(2, 8), (1.0, 3.0, 2.0), (1, 5, 5, 1, 2, 2), tuple(signal.firwin(13, 0.4))])
def test_constants_stay_constant_to_the_border(taps: int | tuple[float, ...]) -> None:
    for pad_type in ("replicate", "reflect"):
        for stride in (1, 2, 3, (1, 2)):
            for size in ((4, 5), (1, 1)):
                x = torch.full((1, 2, *size), 0.7, dtype=torch.float64)
                y = blur_upsample2d(x, taps, stride, pad_type)
                torch.testing.assert_close(y, torch.full_like(y, 0.7))


@pytest.mark.parametrize("stride", [2, 3, (4, 2)])
@pytest.mark.parametrize("filt_size", range(2, 8))
def test_is_the_adjoint_of_the_blur(filt_size: int, stride: int | tuple[int, int]) -> None:
    """With zeros around, <down(x), y> times the gain is <x, up(y)>."""
    steps = (stride, stride) if isinstance(stride, int) else stride
    y = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    x = torch.randn(2, 3, 5 * steps[0], 4 * steps[1], dtype=torch.float64)
    down = blur_pool2d(x, filt_size, stride, "zero", wide=True)
    up = blur_upsample2d(y, filt_size, stride, "zero")
    torch.testing.assert_close((down * y).sum() * steps[0] * steps[1], (x * up).sum())


def test_own_taps_are_normalised_phase_by_phase() -> None:
    x = torch.randn(1, 1, 6, dtype=torch.float64)
    ours = blur_upsample1d(x, (1.0, 4.0, 1.0), stride=2, pad_type="zero")
    expected = torch.zeros(1, 1, 12, dtype=torch.float64)
    expected[..., ::2] = x
    expected[..., 1::2] = (x + F.pad(x, (0, 1))[..., 1:]) / 2
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(("filt_size", "stride"), [(1, 2), ((1, 2), 3), ((1, 1, -1), 2), (1, (1, 2))])
def test_taps_that_leave_holes_are_refused(filt_size: int | tuple[float, ...], stride: int) -> None:
    with pytest.raises(ValueError, match="taps leave pixels without a value at a stride of"):
        blur_upsample2d(torch.ones(1, 1, 4, 4), filt_size, stride)


def test_other_dimensions_and_axes() -> None:
    x = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    frames = torch.stack([blur_upsample2d(frame, 5, (2, 3)) for frame in x.unbind(2)], dim=2)
    torch.testing.assert_close(blur_upsample3d(x, 5, (1, 2, 3)), frames)
    rows = torch.stack([blur_upsample1d(row, 4) for row in x[:, :, 0].unbind(2)], dim=2)
    torch.testing.assert_close(blur_upsample2d(x[:, :, 0], 4, (1, 2)), rows)
    torch.testing.assert_close(blur_upsample2d(x[0, :, 0]), blur_upsample2d(x[:1, :, 0])[0])
    assert torch.equal(blur_upsample2d(x[0], 1, 1), x[0])


@pytest.mark.parametrize("filt_size", [2, 3, 4, 5, (1.0, 2.0, 4.0)])
@pytest.mark.parametrize("pad_type", list(MODES))
def test_gradients(pad_type: str, filt_size: int | tuple[float, ...]) -> None:
    for size in ((3, 2), (1, 1)):
        x = torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: blur_upsample2d(x, filt_size, (2, 3), pad_type), (x,), fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda x: blur_upsample2d(x, filt_size, 2, pad_type), (x,), fast_mode=True)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_and_memory_format_stay(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 8, 7, 6).to(dtype).contiguous(memory_format=memory_format)
    for filt_size in (3, 4):
        for context in (torch.autocast("cpu", enabled=False), torch.autocast("cpu", dtype=torch.bfloat16)):
            with context:
                y = blur_upsample2d(x, filt_size)
            assert y.dtype == dtype
            assert y.is_contiguous(memory_format=memory_format)
            exact = blur_upsample2d(x.double(), filt_size)
            torch.testing.assert_close(
                y.double(), exact, rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps
            )


def test_layers_agree_with_functions() -> None:
    classes = (az.BlurUpsample1d, az.BlurUpsample, az.BlurUpsample3d)
    functions = (blur_upsample1d, blur_upsample2d, blur_upsample3d)
    for ndim, (layer, function) in enumerate(zip(classes, functions, strict=True), start=1):
        x = torch.randn(2, 3, *(4, 5, 3)[:ndim])
        for pad_type in MODES:
            for filt_size in (2, 4, (1, 2, 3)):
                made = layer(3, pad_type, filt_size, 2)
                assert torch.equal(made(x), function(x, filt_size, 2, pad_type))
                assert made.state_dict() == {}
                torch.testing.assert_close(made.double()(x.double()), function(x.double(), filt_size, 2, pad_type))


def test_repr_and_errors() -> None:
    assert repr(az.BlurUpsample(64)) == "BlurUpsample(64, filt_size=4, stride=2, replicate)"
    assert "filt_size=(0.3333, 0.6667)" in repr(az.BlurUpsample(filt_size=(1, 2)))
    for arguments, message in (((4, 0), "stride"), ((4, 2, "wrap"), "'wrap'"), ((9,), "filter size 9")):
        with pytest.raises(ValueError, match=message):
            blur_upsample2d(torch.ones(1, 1, 4, 4), *arguments)
    with pytest.raises(TypeError, match="floating-point"):
        blur_upsample2d(torch.ones(1, 1, 4, 4, dtype=torch.int64))


def test_exports_and_round_trips() -> None:
    """Up and then down again gives a smooth map back."""
    net = torch.nn.Sequential(az.BlurUpsample(3), az.Downsample(3, filt_size=4))
    x: Tensor = torch.linspace(0, 1, 12).expand(1, 3, 12, 12).contiguous()
    torch.testing.assert_close(net(x)[..., 2:-2], x[..., 2:-2])
    torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), net(x))
