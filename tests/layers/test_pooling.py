"""Pools that blur, against torch's pools, the plain formula and the published pair."""

from __future__ import annotations

from collections.abc import Callable

import antialiased_cnns
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from ways import take

from antialiased_zoo.layers.filters import binomial_taps
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


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"), [(2, 2, 0, 1), (3, 2, 1, 1), (3, 3, 0, 2), (2, 3, 1, 1)]
)
def test_max_then_subsample_is_max_pooling(
    kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> None:
    for size in ((12, 13), (7, 9), (10, 11)):
        x = torch.randn(2, 3, *size)
        ours = max_blur_pool2d(x, kernel, 1, stride, padding, dilation, ceil_mode)
        assert torch.equal(ours, F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode))
        blurred = max_blur_pool2d(x, kernel, 4, stride, padding, dilation, ceil_mode)
        assert blurred.shape == ours.shape
        assert blurred.isfinite().all()


WINDOWS = (
    (2, 2, 0, 1),
    (3, 2, 1, 1),
    (5, 3, 2, 1),
    ((3, 2), (2, 1), (1, 0), (2, 1)),
    ((1, 4), 2, (0, 2), 1),
    (2, 1, 1, 12),
)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("filt_size", [1, 4])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), WINDOWS)
def test_max_then_blur_equals_the_plain_formula(
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    filt_size: int,
    ceil_mode: bool,
    memory_format: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Few different whole numbers make many values equal: the gradient goes to the first, as in torch's pools."""

    def pooled() -> tuple[Tensor, Tensor, Tensor]:
        leaf = x.clone().requires_grad_()
        y = max_blur_pool2d(leaf, kernel, filt_size, stride, padding, dilation, ceil_mode)
        (grad,) = torch.autograd.grad((y * torch.arange(y.numel()).view(y.shape).cos()).sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(grad.square().sum(), leaf, allow_unused=True)
        assert second is None or not second.any()
        return max_blur_pool2d(x, kernel, filt_size, stride, padding, dilation, ceil_mode), y.detach(), grad.detach()

    x = torch.randint(-2, 3, (3, 4, 13, 16)).double().contiguous(memory_format=memory_format)
    take("dense pool", monkeypatch)
    inference, training, grad = pooled()
    assert all(result.is_contiguous(memory_format=memory_format) for result in (inference, training, grad))
    take("convolution", monkeypatch)
    expected, _, plain_grad = pooled()
    torch.testing.assert_close(inference, expected)
    torch.testing.assert_close(training, expected)
    torch.testing.assert_close(grad, plain_grad)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 1)])
def test_gradients_of_max_then_blur(window: tuple[int, int, int], memory_format: torch.memory_format) -> None:
    kernel, stride, padding = window
    x = torch.randperm(2 * 2 * 7 * 8).view(2, 2, 7, 8).double().contiguous(memory_format=memory_format)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: max_blur_pool2d(x, kernel, 4, stride, padding), (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: max_blur_pool2d(x, kernel, 4, stride, padding), (x,), fast_mode=True)


def test_large_maps_go_through_in_parts() -> None:
    """More images than one part holds, and a last part that is smaller."""
    x = torch.randn(5, 24, 190, 190)
    y = max_blur_pool2d(x, 2)
    torch.testing.assert_close(y, torch.cat([max_blur_pool2d(image[None], 2) for image in x]))
    x.requires_grad_()
    torch.testing.assert_close(max_blur_pool2d(x, 2), y)
    (grad,) = torch.autograd.grad(max_blur_pool2d(x, 2).square().sum(), x)
    (first,) = torch.autograd.grad(max_blur_pool2d(x[4:], 2).square().sum(), x)
    torch.testing.assert_close(grad[4:], first[4:])


def test_max_then_blur_equals_the_published_pair() -> None:
    x = torch.randn(2, 5, 14, 15)
    peer = torch.nn.Sequential(torch.nn.MaxPool2d(2, stride=1), antialiased_cnns.BlurPool(5, filt_size=4, stride=2))
    torch.testing.assert_close(max_blur_pool2d(x, 2), peer(x), rtol=1e-5, atol=1e-6)


BLURS = (blur_pool1d, blur_pool2d, blur_pool3d)
MAXIMA = (max_blur_pool1d, max_blur_pool2d, max_blur_pool3d)
AVERAGES = (avg_blur_pool1d, avg_blur_pool2d, avg_blur_pool3d)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_pools_in_every_dimension(ndim: int) -> None:
    """Filter size 1 is torch's max pool; else the blur, which for 1-D and 3-D is checked axis by axis, follows it."""
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[ndim - 1]
    average = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[ndim - 1]
    for size in ((8, 9, 7), (5, 6, 11)):
        x = torch.randn(2, 3, *size[:ndim])
        for kernel, stride, padding, ceil_mode in ((3, 2, 1, False), (2, 3, 0, True), (3, 1, 1, False)):
            arguments = (kernel, 1, stride, padding)
            assert torch.equal(
                MAXIMA[ndim - 1](x, *arguments, 1, ceil_mode), pool(x, kernel, stride, padding, 1, ceil_mode)
            )
            ours = AVERAGES[ndim - 1](x, kernel, 4, stride, padding, ceil_mode)
            assert ours.shape == average(x, kernel, stride, padding, ceil_mode).shape
        dense = pool(x, 3, 1, 1)
        expected = dense
        for axis in range(2, 2 + ndim):
            row = expected.movedim(axis, -1)
            expected = blur_pool2d(row.reshape(-1, 1, 1, row.shape[-1]), 4, (1, 2)).reshape(*row.shape[:-1], -1)
            expected = expected.movedim(-1, axis)
        torch.testing.assert_close(MAXIMA[ndim - 1](x, 3, 4, 2, 1), expected)
        torch.testing.assert_close(BLURS[ndim - 1](dense, 4, 2), expected)


@pytest.mark.parametrize(
    ("kernel", "taps", "stride", "padding"),
    [(2, 2, 2, 0), (2, 4, 2, 0), (3, 3, 2, 1), (3, 5, 3, 0), (4, 2, 2, 0), (7, 3, 2, 0), (7, 3, 2, 3), (6, 2, 3, 1)],
)
def test_an_average_in_whose_place_a_blur_goes_keeps_its_centres(
    kernel: int, taps: int, stride: int, padding: int
) -> None:
    x = torch.randn(2, 3, 31, dtype=torch.float64)
    weights = torch.tensor(binomial_taps(taps), dtype=torch.float64)
    pooled = F.avg_pool1d(x, kernel, stride, padding)
    ours = avg_blur_pool1d(x, kernel, taps, stride, padding)
    assert ours.shape == pooled.shape
    for i in range(ours.shape[-1]):
        first = i * stride - padding + (kernel - taps) // 2  # the taps' window in the middle of the average's
        if first >= 0 and first + taps <= 31:
            torch.testing.assert_close(ours[..., i], (x[..., first : first + taps] * weights).sum(-1))
    torch.testing.assert_close(avg_blur_pool2d(x, (1, kernel), taps, (1, stride), (0, padding)), ours)


def test_a_rect_2_average_pool_is_itself() -> None:
    x = torch.randn(2, 3, 9, 12)
    torch.testing.assert_close(avg_blur_pool2d(x, 2, 2, 2), F.avg_pool2d(x, 2, 2))
    torch.testing.assert_close(avg_blur_pool2d(x, 3, (1, 1, 1), 3), F.avg_pool2d(x, 3, 3))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("function", [max_blur_pool2d, avg_blur_pool2d])
def test_gradients_of_pools(function: Callable[..., Tensor], memory_format: torch.memory_format) -> None:
    for size, arguments in (((5, 6), (2,)), ((5, 6), (3, (1, 2, 3), 2, 1)), ((1, 1), (3, 4, 2, 1))):
        x = torch.randn(2, 2, *size, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
        assert torch.autograd.gradcheck(lambda x, a=arguments: function(x, *a), (x,), fast_mode=True)


def test_pools_of_the_smallest_map() -> None:
    x = torch.tensor([[[[3.0]]]])
    assert max_blur_pool2d(x, 3, 5, 2, 1).item() == 3
    assert avg_blur_pool2d(x, 3, 5, 2, 1).item() == pytest.approx(3)
    assert max_blur_pool2d(x, 3, 5, 4, 1, wide=True).item() == pytest.approx(3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_pools_keep_the_dtype(dtype: torch.dtype) -> None:
    x = torch.randn(2, 4, 9, 10).to(dtype)
    for function in (max_blur_pool2d, avg_blur_pool2d):
        y = function(x, 2, (1, 1, 1))
        assert y.dtype == dtype
        tolerance = 8 * torch.finfo(dtype).eps
        torch.testing.assert_close(y.double(), function(x.double(), 2, (1, 1, 1)), rtol=tolerance, atol=tolerance)


def test_a_map_smaller_than_the_window_gives_what_torch_gives() -> None:
    x = torch.randn(1, 3, 2, 2)
    assert torch.equal(max_blur_pool2d(x, 3, 1, 2, ceil_mode=True), F.max_pool2d(x, 3, 2, ceil_mode=True))
    with pytest.raises(RuntimeError, match="Output size is too small"):
        max_blur_pool2d(x, 3)
