"""The Triton kernel: a separable blur with padding and stride, or its transpose, as a gather.

Along each axis, a position of the result reads a fixed number of *slots*: source positions, each
with a weight. The slots of a blur are its taps; the slots of its transpose are the outputs that may
have read the position, so the gradient needs no atomic additions and no saved tensors. A program
computes a few rows (a *band*) of some columns and channels: each source row is read once, summed
along the columns, and added to the rows of the band that use it.
"""
# Triton's language differs from Python: constants are upper-case, tuples grow by concatenation, and
# there is no unpacking.
# ruff: noqa: N803, N806, RUF005
# mypy: disable-error-code="assignment, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def blur_kernel(
    x: tl.tensor, x_image: tl.tensor, x_channel: tl.tensor, x_row: tl.tensor, x_column: tl.tensor,
    x_rows: tl.tensor, x_columns: tl.tensor,
    y: tl.tensor, y_image: tl.tensor, y_channel: tl.tensor, y_row: tl.tensor, y_column: tl.tensor,
    y_rows: tl.tensor, y_columns: tl.tensor,
    channels: tl.tensor, Y: tl.constexpr, X: tl.constexpr, DTYPE: tl.constexpr,
    COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
) -> None:  # fmt: skip
    """Compute ``y`` from ``x`` in ``DTYPE``; ``Y`` and ``X`` are the `Axis` of the rows and of the columns."""
    program = tl.program_id(0)
    BAND: tl.constexpr = len(Y.starts)
    channel_blocks, column_blocks = tl.cdiv(channels, CHANNELS), tl.cdiv(y_columns, COLUMNS)
    bands = tl.cdiv(y_rows, BAND)
    channel = (program % channel_blocks) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    column = (program // channel_blocks % column_blocks) * COLUMNS + tl.arange(0, COLUMNS)[:, None]
    first = (program // channel_blocks // column_blocks % bands) * BAND
    image = (program // channel_blocks // column_blocks // bands).to(tl.int64)
    x += image * x_image
    y += image * y_image

    places, masks, weights = (), (), ()  # for each slot of the columns
    SLOTS: tl.constexpr = X.slots
    for slot in tl.static_range(SLOTS):
        place = _place(column, slot, X)
        weight = _weight(column, place, 0, slot, y_columns, X, not X.transposed, DTYPE)
        places = places + (channel * x_channel + _copied(place, x_columns, X.source_folds) * x_column,)
        masks = masks + ((channel < channels) & _is_read(place, x_columns, X) & (weight != 0),)
        weights = weights + (weight,)

    if Y.transposed:
        if (first >= Y.margin) & (first + BAND + Y.margin <= y_rows):
            sums = _sums(x, x_row, x_rows, y_rows, first, places, masks, weights, Y, True, DTYPE, COLUMNS, CHANNELS)
        else:
            sums = _sums(x, x_row, x_rows, y_rows, first, places, masks, weights, Y, False, DTYPE, COLUMNS, CHANNELS)
    else:
        sums = _sums(x, x_row, x_rows, y_rows, first, places, masks, weights, Y, True, DTYPE, COLUMNS, CHANNELS)

    for i in tl.static_range(BAND):
        is_written = (channel < channels) & (column < y_columns) & (first + i < y_rows)
        tl.store(y + (first + i) * y_row + (channel * y_channel + column * y_column), sums[i], mask=is_written)


@triton.jit
def _sums(
    x: tl.tensor, x_row: tl.tensor, x_rows: tl.tensor, y_rows: tl.tensor, first: tl.tensor,
    places: tl.tuple, masks: tl.tuple, weights: tl.tuple,
    Y: tl.constexpr, INNER: tl.constexpr, DTYPE: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Compute the rows of a band."""
    BAND: tl.constexpr = len(Y.starts)
    sums = (tl.zeros([COLUMNS, CHANNELS], DTYPE),) * BAND
    STEPS: tl.constexpr = Y.starts[BAND - 1] + Y.slots
    SLOTS: tl.constexpr = len(places)
    for step in tl.static_range(STEPS):
        place = _place(first, step, Y)
        row = x + _copied(place, x_rows, Y.source_folds) * x_row
        is_read = _is_read(place, x_rows, Y)
        total = tl.zeros([COLUMNS, CHANNELS], DTYPE)
        for slot in tl.static_range(SLOTS):
            value = tl.load(row + places[slot], mask=masks[slot] & is_read, other=0.0)
            total += value.to(DTYPE) * weights[slot]
        added = ()
        for i in tl.static_range(BAND):
            if step < Y.starts[i] or step >= Y.starts[i] + Y.slots:
                added = added + (sums[i],)
            elif INNER:
                if Y.weights[i][step - Y.starts[i]] == 0:
                    added = added + (sums[i],)
                else:
                    added = added + (sums[i] + total * Y.weights[i][step - Y.starts[i]],)
            else:
                weight = _weight(first + i, place, i, step - Y.starts[i], y_rows, Y, False, DTYPE)
                # where(), because 0 * total is NaN if a neighbouring gradient is infinite.
                added = added + (sums[i] + tl.where(weight != 0, total * weight, 0.0),)
        sums = added
    return sums


@triton.jit
def _place(i: tl.tensor, slot: tl.constexpr, axis: tl.constexpr) -> tl.tensor:
    """The padded source position that position ``i`` of the result reads in a slot; it may not exist (`_is_read`)."""
    if axis.transposed:
        return (i + axis.shift) // axis.stride - axis.back + slot
    return i * axis.stride - axis.before + slot


@triton.jit
def _weight(
    i: tl.tensor, place: tl.tensor, row: tl.constexpr, slot: tl.constexpr, size: tl.tensor, axis: tl.constexpr,
    INNER: tl.constexpr, DTYPE: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """The weight of source position ``place`` for position ``i`` of the result, whose length is ``size``."""
    weight = tl.zeros_like(i).to(DTYPE)
    if INNER:
        return weight + axis.weights[row][slot]
    TAPS: tl.constexpr = len(axis.taps)
    for tap in tl.static_range(TAPS):
        padded = place * axis.stride - axis.before + tap
        origin = padded if axis.is_zero_padded else _copied(padded, size, axis.folds)
        weight += (origin == i).to(DTYPE) * axis.taps[tap]
    return weight


@triton.jit
def _copied(place: tl.tensor, size: tl.tensor, folds: tl.constexpr) -> tl.tensor:
    """The position in the map that a position of the padded map copies; without folds, the border's."""
    for _ in tl.static_range(folds):
        place = size - 1 - tl.abs(size - 1 - tl.abs(place))
    return tl.minimum(tl.maximum(place, 0), size - 1)


@triton.jit
def _is_read(place: tl.tensor, size: tl.tensor, axis: tl.constexpr) -> tl.tensor:
    """False where a position holds zero."""
    if axis.transposed or axis.is_zero_padded:
        return (place >= 0) & (place < size)
    return place == place
