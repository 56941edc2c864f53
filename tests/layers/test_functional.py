"""The blur against the published layer, float64 maths, and itself."""

from __future__ import annotations

from collections.abc import Callable

import antialiased_cnns
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ways import take

import antialiased_zoo as az
from antialiased_zoo.layers import dispatch, filters, formula
from antialiased_zoo.layers.filters import FILTER_SIZES, Blur, binomial_taps
from antialiased_zoo.layers.functional import (
    avg_blur_pool1d,
    avg_blur_pool2d,
    avg_blur_pool3d,
    blur_pool1d,
    blur_pool2d,
    blur_pool3d,
    max_blur_pool1d,
    max_blur_pool2d,
    max_blur_pool3d,
)
from antialiased_zoo.layers.padding import padded_indices

PAD_TYPES = ("reflect", "replicate", "zero")
NUMPY_MODES = {"reflect": "reflect", "replicate": "edge", "zero": "constant"}
SIZES = ((8, 8), (9, 12), (13, 7))


def reference(x: Tensor, filt_size: int, stride: tuple[int, int], pad_type: str, pad_off: int = 0) -> np.ndarray:
    """The definition, in float64 numpy: pad, then for every output the weighted sum under the kernel."""
    taps = np.array([1.0])
    for _ in range(filt_size - 1):
        taps = np.convolve(taps, [0.5, 0.5])
    around = ((filt_size - 1) // 2 + pad_off, -((1 - filt_size) // 2) + pad_off)
    padded = np.pad(x.double().numpy(), ((0, 0), (0, 0), around, around), mode=NUMPY_MODES[pad_type])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (filt_size, filt_size), axis=(2, 3))
    return np.einsum("nchwij,i,j->nchw", windows, taps, taps)[:, :, :: stride[0], :: stride[1]]


@pytest.mark.parametrize("pad_type", PAD_TYPES)
@pytest.mark.parametrize("filt_size", FILTER_SIZES)
def test_equals_the_published_layer(filt_size: int, pad_type: str) -> None:
    for stride in (1, 2, 3):
        for pad_off in (0, 1):
            peer = antialiased_cnns.BlurPool(3, pad_type, filt_size, stride, pad_off)
            for size in SIZES:
                x = torch.randn(2, 3, *size)
                ours = blur_pool2d(x, filt_size, stride, pad_type, pad_off)
                torch.testing.assert_close(ours, peer(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("pad_type", PAD_TYPES)
@pytest.mark.parametrize("filt_size", FILTER_SIZES)
def test_every_way_equals_float64_maths(filt_size: int, pad_type: str, memory_format: torch.memory_format) -> None:
    for size in (*SIZES, (1, 1), (1, 5), (2, 3)):  # the last three are too small to reflect in once
        for stride in (1, 2, 3):
            x = torch.randn(2, 3, *size).contiguous(memory_format=memory_format)
            blur = Blur.make(binomial_taps(filt_size), stride, pad_type, 0, ndim=2)
            expected = torch.from_numpy(reference(x, filt_size, (stride, stride), pad_type)).float()
            for way in (
                formula.convolved(x, blur, blur.kernel()),
                formula.sliced(x, blur),
                dispatch.blur_pool(x, blur),
            ):
                torch.testing.assert_close(way, expected, rtol=1e-5, atol=1e-6)


def test_an_axis_with_stride_1_of_a_pair_is_not_blurred() -> None:
    x = torch.randn(1, 2, 6, 9)
    rows = blur_pool2d(x, 4, (2, 1))
    expected = torch.stack([blur_pool2d(x[..., i : i + 1].expand(-1, -1, -1, 4), 4, 2)[..., 0] for i in range(9)], -1)
    assert rows.shape == (1, 2, 3, 9)
    torch.testing.assert_close(rows, expected)
    assert torch.equal(blur_pool2d(x, 4, (1, 1)), x)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("filt_size", FILTER_SIZES)
@pytest.mark.parametrize("size", [(16, 18), (300, 20)])
def test_memory_format_is_kept(size: tuple[int, int], filt_size: int, memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 8, *size).contiguous(memory_format=memory_format)
    for y in (blur_pool2d(x, filt_size), max_blur_pool2d(x, 2, filt_size)):
        assert y.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    x = torch.randn(2, 4, 9, 10, dtype=dtype)
    y = blur_pool2d(x)
    assert y.dtype == dtype
    expected = torch.from_numpy(reference(x, 4, (2, 2), "reflect"))
    tolerance = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=4 * tolerance)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("function", [blur_pool2d, lambda x: max_blur_pool2d(x, 2)])
def test_autocast_leaves_the_dtype_alone(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(2, 4, 30, 10)
    expected = function(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(function(x), expected)
        assert function(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("filt_size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("pad_type", PAD_TYPES)
def test_gradients(pad_type: str, filt_size: int, memory_format: torch.memory_format) -> None:
    for size in ((5, 6), (2, 1)):
        x = torch.randn(2, 2, *size, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: blur_pool2d(x, filt_size, 2, pad_type), (x,), fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda x: blur_pool2d(x, filt_size, 2, pad_type), (x,), fast_mode=True)


def test_training_works_after_inference_mode_made_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    take("dense pool", monkeypatch)
    with torch.inference_mode():
        blur_pool2d(torch.randn(1, 1, 17, 19), 6)
        max_blur_pool2d(torch.randn(1, 1, 17, 19), 2)
    x = torch.randn(1, 1, 17, 19, requires_grad=True)
    blur_pool2d(x, 6).sum().backward()
    torch.testing.assert_close(x.grad.sum(), torch.tensor(9 * 10.0))  # every output hands on a weight of 1
    x.grad = None
    max_blur_pool2d(x, 2).sum().backward()
    torch.testing.assert_close(x.grad.sum(), torch.tensor(8 * 9.0))


def test_unbatched_equals_batched() -> None:
    x = torch.randn(3, 7, 8)
    torch.testing.assert_close(blur_pool2d(x), blur_pool2d(x[None])[0])
    torch.testing.assert_close(max_blur_pool2d(x, 2), max_blur_pool2d(x[None], 2)[0])


BLURS = {"slices": formula.sliced, "convolution": formula.convolved, "subsample": formula.sliced}


@pytest.mark.parametrize(
    ("x", "name"),
    [
        (torch.ones(1, 2, 8, 8), "convolution"),
        (torch.ones(1, 2, 8, 8, dtype=torch.bfloat16), "convolution"),
        (torch.ones(1, 2, 8, 8, dtype=torch.float64), "slices"),
        (torch.ones(1, 2, 8, 8, dtype=torch.float64, device="meta"), "convolution"),
    ],
)
def test_the_table_says_which_kernel_serves(x: Tensor, name: str) -> None:
    blur = Blur.make(4, 2, "reflect", 0, ndim=2)
    row = next(row for row in dispatch.BLUR if row.serves(x, blur))
    assert row.name == name
    assert row.computes is BLURS[name]
    none = Blur.make(1, 2, "reflect", 0, ndim=2)
    assert next(row for row in dispatch.BLUR if row.serves(x, none)).name == "subsample"


def test_a_kernel_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A toy kernel from outside serves the tensors that it names, and no others."""
    toy = dispatch.Kernel("toy", lambda x, blur: x.dtype is torch.float16, lambda x, *_: x * 0, "a test")
    monkeypatch.setattr(dispatch, "BLUR", [toy, *dispatch.BLUR])
    assert not blur_pool2d(torch.ones(1, 1, 4, 4, dtype=torch.float16)).any()
    assert blur_pool2d(torch.ones(1, 1, 4, 4)).all()


def test_a_padding_is_one_name_and_one_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A toy mode from outside: what does not know it says so, and takes it for no other."""
    monkeypatch.setitem(filters.PAD_TYPES, "wrapped", "circular")
    x = torch.randn(1, 2, 8, 8)
    wrapped = torch.cat([x[..., -1:], x, x[..., :2]], 3)
    wrapped = torch.cat([wrapped[:, :, -1:], wrapped, wrapped[:, :, :2]], 2)
    expected = F.conv2d(wrapped, Blur.make(4, 2, "wrapped", 0, 2).kernel(channels=2), stride=2, groups=2)
    torch.testing.assert_close(blur_pool2d(x, 4, 2, "wrapped"), expected)
    with pytest.raises(ValueError, match="padding circular"):
        padded_indices(8, (1, 2), "circular")
    with pytest.raises(torch.jit.Error, match="padding circular"):
        torch.jit.script(az.Downsample(2, "wrapped"))(x)


def test_without_onednn_the_blur_is_the_same() -> None:
    for size in (9, 300):
        x = torch.randn(2, 24, size, size)
        expected = [blur_pool2d(x), max_blur_pool2d(x, 3, padding=1)]
        with torch.backends.mkldnn.flags(enabled=False):
            for y, same in zip(expected, [blur_pool2d(x), max_blur_pool2d(x, 3, padding=1)], strict=True):
                torch.testing.assert_close(y, same, rtol=1e-5, atol=1e-6)


def test_transforms_of_torch_func() -> None:
    x = torch.randn(3, 2, 4, 9, 10)
    y = torch.func.vmap(lambda x: max_blur_pool2d(x, 2))(x)
    torch.testing.assert_close(y, torch.stack([max_blur_pool2d(one, 2) for one in x]))
    grad = torch.func.grad(lambda x: blur_pool2d(x).square().sum())(x[0])
    leaf = x[0].clone().requires_grad_()
    torch.testing.assert_close(grad, torch.autograd.grad(blur_pool2d(leaf).square().sum(), leaf)[0])
    _, tangent = torch.func.jvp(blur_pool2d, (x[0],), (x[1],))
    torch.testing.assert_close(tangent, blur_pool2d(x[1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch_dim", [0, 2, -1])
def test_vmap_over_any_axis(dtype: torch.dtype, batch_dim: int) -> None:
    x = torch.randn(3, 2, 4, 6, 8, dtype=dtype)
    functions = [
        az.Downsample(4, filt_size=1),
        az.Downsample(4, filt_size=3),
        az.MaxBlurPool2d(3, 2, padding=1),
        az.BlurUpsample(4, filt_size=3),
    ]
    for function in functions:
        y = torch.func.vmap(function, in_dims=batch_dim)(x.movedim(0, batch_dim))
        torch.testing.assert_close(y, torch.stack([function(one) for one in x]))


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "blur": lambda x: blur_pool2d(x, 4, 2),
    "wide": lambda x: blur_pool2d(x, 3, (4, 2), wide=True),
    "dense": lambda x: blur_pool2d(x, 3, 2, dense=True),
    "own taps": lambda x: blur_pool2d(x, (1.0, 2.0, 3.0), 2),
    "max": lambda x: max_blur_pool2d(x, 3, 4, 2, 1),
    "average": lambda x: avg_blur_pool2d(x, 3, 4, 2, 1),
    "upsample": lambda x: az.blur_upsample2d(x, 3, (1, 2)),
    "1d": lambda x: (
        max_blur_pool1d(blur_pool1d(x[:, :, 0]), 2) + avg_blur_pool1d(az.blur_upsample1d(x[:, :, 0]), 2, stride=8)
    ),
    "3d": lambda x: (
        max_blur_pool3d(blur_pool3d(x[None]), 2) + avg_blur_pool3d(az.blur_upsample3d(x[None]), 2, stride=8)
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_compiles_whole_and_exports(name: str) -> None:
    function = FUNCTIONS[name]

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    x = torch.randn(8, 8, 12, 16, requires_grad=True)
    expected = function(x)
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(compiled, expected)
    gradient = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad(expected, x, gradient)
    torch.testing.assert_close(torch.autograd.grad(compiled, x, gradient)[0], wanted)
    torch.testing.assert_close(torch.export.export(Net(), (x.detach(),)).module()(x.detach()), expected.detach())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filt_size": 8}, r"filter size 8 .*\(1, 2, 3, 4, 5, 6, 7\)"),
        ({"stride": 0}, "stride must be a positive integer"),
        ({"stride": (2, 2, 2)}, "stride"),
        ({"pad_type": "circular"}, "'circular' .*'reflect'"),
        ({"pad_off": -1}, "pad_off"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        blur_pool2d(torch.ones(1, 1, 4, 4), **arguments)


def test_bad_inputs_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        blur_pool2d(torch.ones(4, 4))
    with pytest.raises(ValueError, match=r"\(1, 2, 0, 4\)"):
        blur_pool2d(torch.ones(1, 2, 0, 4))
    with pytest.raises(TypeError, match=r"int64.*\.float\(\)"):
        blur_pool2d(torch.ones(1, 1, 4, 4, dtype=torch.int64))
