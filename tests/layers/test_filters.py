"""Taps: the binomial's, those for longer strides, and one's own, against NumPy and numerical integrals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, signal

from antialiased_zoo.layers.filters import FILTER_SIZES, Blur, alias_energy, binomial_taps, read_filter_size, wide_taps
from antialiased_zoo.layers.functional import blur_pool1d, blur_pool2d


@pytest.mark.parametrize("filt_size", FILTER_SIZES)
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 7])
def test_wide_taps_are_repeated_boxes(filt_size: int, stride: int) -> None:
    expected = np.array([1.0])
    for _ in range(filt_size - 1):
        expected = np.convolve(expected, np.full(stride, 1 / stride))
    np.testing.assert_allclose(wide_taps(filt_size, stride), expected, rtol=1e-14)
    if stride == 2:
        assert binomial_taps(filt_size) == wide_taps(filt_size, stride)


@pytest.mark.parametrize("filt_size", FILTER_SIZES)
@pytest.mark.parametrize("stride", [2, 3, 4, 8])
def test_alias_energy_is_the_integral_above_nyquist(filt_size: int, stride: int) -> None:
    for taps in (binomial_taps(filt_size), wide_taps(filt_size, stride)):

        def power(f: float, taps: tuple[float, ...] = taps) -> float:
            return abs(np.sum(taps * np.exp(-2j * np.pi * f * np.arange(len(taps))))) ** 2

        above = integrate.quad(power, 0.5 / stride, 0.5, limit=200)[0]
        assert alias_energy(taps, stride) == pytest.approx(
            above / integrate.quad(power, 0, 0.5, limit=200)[0], abs=1e-9
        )
    assert alias_energy(filt_size, stride) == alias_energy(binomial_taps(filt_size), stride)


@pytest.mark.parametrize("stride", [3, 4, 8])
def test_wide_taps_let_less_alias_through_than_the_binomial(stride: int) -> None:
    for filt_size in range(2, 8):
        assert alias_energy(wide_taps(filt_size, stride), stride) < 0.6 * alias_energy(filt_size, stride)
    # What folds onto a constant is gone altogether; the binomial lets some of it through.
    turns = np.exp(2j * np.pi * np.arange(1, stride) / stride)
    assert np.abs(np.polyval(wide_taps(4, stride), turns)).max() < 1e-12
    assert np.abs(np.polyval(binomial_taps(4), turns)).max() > 0.1


@pytest.mark.parametrize("filt_size", FILTER_SIZES)
def test_a_wide_blur_of_stride_4_is_two_blurs_of_stride_2(filt_size: int) -> None:
    x = torch.randn(2, 3, 120, dtype=torch.float64)
    twice = blur_pool1d(blur_pool1d(x, filt_size), filt_size)
    once = blur_pool1d(x, filt_size, stride=4, wide=True)
    assert once.shape == twice.shape
    torch.testing.assert_close(once[..., 6:-6], twice[..., 6:-6])
    assert torch.equal(blur_pool1d(x, filt_size, wide=True), blur_pool1d(x, filt_size))


def test_wide_widens_each_axis_for_its_own_stride() -> None:
    x = torch.randn(1, 2, 24, 25, dtype=torch.float64)
    rows, columns = blur_pool2d(x, 4, (1, 4), wide=True), blur_pool2d(x, 4, (3, 1), wide=True)
    both = blur_pool2d(x, 4, (3, 4), wide=True)
    torch.testing.assert_close(blur_pool2d(rows, 4, (3, 1), wide=True), both)
    torch.testing.assert_close(blur_pool2d(columns, 4, (1, 4), wide=True), both)


def test_dense_keeps_what_the_stride_drops() -> None:
    x = torch.randn(2, 3, 17, 20)
    for stride in (2, 3, (1, 2), (4, 2)):
        step = (stride, stride) if isinstance(stride, int) else stride
        dense = blur_pool2d(x, 5, stride, wide=True, dense=True)
        assert dense.shape == x.shape
        strided = blur_pool2d(x, 5, stride, wide=True)
        torch.testing.assert_close(dense[:, :, :: step[0], :: step[1]], strided)


@pytest.mark.parametrize("taps", [(3,), (1.0, 2.0, 5.0), (1, -0.5, 2, 3), tuple(signal.firwin(11, 0.5))])
@pytest.mark.parametrize("size", [(16, 13), (300, 3), (1, 1)])  # by matrices, by convolution, too small to reflect in
def test_own_taps_equal_numpy(taps: tuple[float, ...], size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    weights = np.array(taps) / np.sum(taps)
    around = ((len(taps) - 1) // 2, len(taps) // 2)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), around, around), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (len(taps),) * 2, axis=(2, 3))
    expected = torch.from_numpy(np.einsum("nchwij,i,j->nchw", windows, weights, weights)[:, :, ::2, ::3])
    for given in (taps, list(taps), np.array(taps), torch.tensor(taps, dtype=torch.float64)):
        torch.testing.assert_close(blur_pool2d(x, given, (2, 3)), expected)
    tolerance = 4 * torch.finfo(torch.float16).eps * np.abs(weights).sum() ** 2
    torch.testing.assert_close(blur_pool2d(x.half(), taps, (2, 3)).double(), expected, rtol=0, atol=4 * tolerance)


def test_the_kernel_is_rounded_once() -> None:
    blur = Blur.make((1, 1, 1), 3, "reflect", 0, ndim=2)
    ninth = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64)
    torch.testing.assert_close(blur.kernel(torch.float64), ninth, rtol=1e-15, atol=0)
    assert torch.equal(blur.kernel(), ninth.float())
    wider = blur.weight(torch.ones(1, 2, 4, 4, dtype=torch.float64), blur.kernel())  # float32 is not exact enough
    torch.testing.assert_close(wider[:1], ninth, rtol=1e-15, atol=0)


def test_numbers_of_numpy_are_filter_sizes() -> None:
    assert read_filter_size(np.int64(4)) == 4
    assert read_filter_size([1, 2, 1]) == (0.25, 0.5, 0.25)


@pytest.mark.parametrize(
    "bad", [[], [1, -1], [0.0], [1, float("nan")], [float("inf"), 1], [[1, 2], [2, 1]], ["1", "2"], [True, None]]
)
def test_bad_taps_are_named(bad: list[object]) -> None:
    with pytest.raises(ValueError, match="taps must be finite numbers, one or more, whose sum is not zero, got"):
        blur_pool1d(torch.ones(1, 1, 4), bad)


@pytest.mark.parametrize("bad", [0, 8, True, 4.0, "4", None, {1, 2}])
def test_bad_filter_sizes_are_named(bad: object) -> None:
    with pytest.raises(
        ValueError, match=r"filter size .* choose one of \(1, .*, 7\), or give taps of your own, such as"
    ):
        blur_pool1d(torch.ones(1, 1, 4), bad)


def test_bad_strides_and_wide_taps_of_ones_own() -> None:
    for call in (lambda: wide_taps(3, 0), lambda: alias_energy(3, 1.5)):
        with pytest.raises(ValueError, match="stride must be a positive integer"):
            call()
    with pytest.raises(ValueError, match="wide=True widens binomial taps"):
        blur_pool1d(torch.ones(1, 1, 4), (1, 2, 1), 4, wide=True)
