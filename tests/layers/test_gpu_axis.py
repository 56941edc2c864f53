"""The GPU kernel's description of an axis, written out as a matrix, against the definition of the blur."""

from __future__ import annotations

import numpy as np
import pytest

from antialiased_zoo.layers.filters import Blur
from antialiased_zoo.layers.gpu.axis import Axis, AxisFacts, blur_axis, transposed_axis

PADS = {"reflect": "reflect", "replicate": "edge", "zero": "constant"}
BLURS = [
    (2, 1, 0),
    (2, 2, 0),
    (3, 2, 0),
    (4, 2, 0),
    (4, 2, 2),
    (5, 2, 7),
    (5, 4, 0),
    (7, 3, 1),
    (2, 4, 0),
    ((1, -2, 5), 2, 0),
]


def definition(facts: AxisFacts, pad_type: str) -> np.ndarray:
    taps, stride, padding, _, size = facts
    padded = np.pad(np.eye(size), (padding, (0, 0)), mode=PADS[pad_type])
    return (np.lib.stride_tricks.sliding_window_view(padded, len(taps), axis=0) @ np.array(taps))[::stride]


def copied(place: int, size: int, axis: Axis) -> int:
    for _ in range(axis.folds):
        place = size - 1 - abs(size - 1 - abs(place))
    return min(max(place, 0), size - 1)


def written_out(axis: Axis, shape: tuple[int, int]) -> np.ndarray:
    """The matrix of an axis with a source and a result of these lengths."""
    length, size = shape
    matrix, last = np.zeros(shape), -(-length // axis.writes) - 1
    assert last * axis.reads - axis.before + axis.slots - axis.after <= size  # what the kernel reads without a mask
    for row in range(length):
        unit, i = divmod(row, axis.writes)
        weights = np.array(axis.weights[i])
        for border in axis.borders:
            if unit == (last - border.unit if border.is_last else border.unit):
                weights = weights + border.weights[i]
        for place, weight in enumerate(weights, unit * axis.reads - axis.before):
            if axis.is_padded:
                matrix[row, copied(place, size, axis)] += weight
            elif 0 <= place < size:
                matrix[row, place] += weight
    return matrix


@pytest.mark.parametrize("pad_type", PADS)
@pytest.mark.parametrize(("filt_size", "stride", "pad_off"), BLURS)
def test_equals_the_definition(filt_size: object, stride: int, pad_off: int, pad_type: str) -> None:
    blur = Blur.make(filt_size, stride, pad_type, pad_off, 1)
    for size in (*range(1, 20), 64):
        facts = (blur.taps[0], stride, blur.padding[0], blur.mode, size)
        wanted = definition(facts, pad_type)
        np.testing.assert_allclose(written_out(blur_axis(facts), wanted.shape), wanted, atol=1e-15)
        np.testing.assert_allclose(written_out(transposed_axis(facts), wanted.T.shape), wanted.T, atol=1e-15)


def test_a_cropped_map() -> None:
    """`AvgBlurPool2d` crops, with negative padding, where its window is longer than the filter."""
    facts = ((0.25, 0.5, 0.25), 2, (-2, -2), "reflect", 12)
    wanted = np.zeros((3, 12))
    for row in range(3):
        wanted[row, 2 + 2 * row : 5 + 2 * row] = facts[0]
    np.testing.assert_allclose(written_out(blur_axis(facts), wanted.shape), wanted)
    np.testing.assert_allclose(written_out(transposed_axis(facts), wanted.T.shape), wanted.T)


@pytest.mark.parametrize("make", [blur_axis, transposed_axis])
def test_the_kernel_is_compiled_for_few_sizes(make: object) -> None:
    """Detectors train on maps of many sizes."""
    facts = Blur.make(4, 2, "reflect", 0, 1)
    axes = {make((facts.taps[0], 2, facts.padding[0], "reflect", size)) for size in range(8, 400)}
    assert len(axes) <= 2  # of even and of odd sizes
