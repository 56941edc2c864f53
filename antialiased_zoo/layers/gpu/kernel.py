"""The Triton kernel: a separable blur with padding and stride, or its transpose, as a gather.

Along each axis the result is divided into units (`Axis`). A thread computes an item: some units of rows
by some units of columns, of some channels. It reads each source row once, sums it along the columns, and
adds the sums to the rows that use it; a row is stored when it is complete. The transpose gathers from the
outputs that have read a position, so the gradient needs no atomic additions and no saved tensors.

Threads read and write vectors. In channels-last they hold channels; otherwise they hold the columns of
an item, if rows are aligned, and the columns around them, which neighbours hold, are read one by one.

The limit is not the GPU's memory but the requests to its second-level cache, each for at most 128 bytes.
So in NCHW a program's items are neighbours along the rows too, and share what they read.
"""
# Triton's language differs from Python: constants are upper-case, tuples grow by concatenation, there is
# no unpacking, and the ends of loops are constants with a name.
# ruff: noqa: N803, N806, RUF005
# mypy: disable-error-code="assignment, misc, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

# Alignment is part of the layout: one compiled kernel for maps of all sizes.
_SIZES = ["x_rows", "x_columns", "y_rows", "y_columns", "images", "channels", "group"]
_STRIDES = [f"{tensor}_{axis}" for tensor in "xy" for axis in ("image", "channel", "row", "column")]


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_STRIDES)
def blur_kernel(
    x: tl.tensor, x_image: tl.tensor, x_channel: tl.tensor, x_row: tl.tensor, x_column: tl.tensor,
    x_rows: tl.tensor, x_columns: tl.tensor,
    y: tl.tensor, y_image: tl.tensor, y_channel: tl.tensor, y_row: tl.tensor, y_column: tl.tensor,
    y_rows: tl.tensor, y_columns: tl.tensor,
    images: tl.tensor, channels: tl.tensor, group: tl.tensor,
    Y: tl.constexpr, X: tl.constexpr, LAYOUT: tl.constexpr, DTYPE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, ITEMS: tl.constexpr, AHEAD: tl.constexpr,
) -> None:  # fmt: skip
    """Compute ``y`` from ``x`` in ``DTYPE``.

    ``Y`` and ``X`` are the `Axis` of the rows and of the columns. In channels-last, items follow each other
    along ``group`` vectors of channels, then the columns and the rows; else along the columns, the rows and
    the channels.
    """
    image = tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)
    row_units, units = tl.cdiv(y_rows, Y.writes), tl.cdiv(y_columns, X.writes)
    bands, blocks = tl.cdiv(row_units, ROWS), tl.cdiv(units, COLUMNS)
    if LAYOUT.is_last:
        program, part = _divided(tl.program_id(0), tl.cdiv(channels, group))
        band, chunk = _divided(program, tl.cdiv(blocks * group, ITEMS))
        block, channel = _divided(chunk * ITEMS + tl.arange(0, ITEMS)[:, None], group)
        channel += part * group
        x_row, x_column = x_row * LAYOUT.x_align, x_column * LAYOUT.x_align
        y_row, y_column = y_row * LAYOUT.y_align, y_column * LAYOUT.y_align
    else:
        item, block = _divided(tl.program_id(0) * ITEMS + tl.arange(0, ITEMS)[:, None], blocks)
        channel, band = _divided(item, bands)
        x_row, x_channel = x_row * LAYOUT.x_align, x_channel * LAYOUT.x_align
        y_row, y_channel = y_row * LAYOUT.y_align, y_channel * LAYOUT.y_align
    valid = (block < blocks) & (channel < channels) & (image < images)
    # What is not valid reads as if it were the last that is: then only reads near the borders need masks.
    image, channel = tl.minimum(image, images - 1), tl.minimum(channel, channels - 1)
    # The last band and block end with the last unit, so they may compute again what those before compute.
    band = tl.minimum(band * ROWS, row_units - ROWS)
    unit = block * COLUMNS if LAYOUT.is_wide else tl.minimum(block * COLUMNS, units - COLUMNS)
    VECTOR: tl.constexpr = LAYOUT.vector
    channel = channel * VECTOR + tl.arange(0, VECTOR)[None, :]
    x += image.to(tl.int64) * x_image * LAYOUT.x_align
    y += image.to(tl.int64) * y_image * LAYOUT.y_align
    x_first, y_first = channel * x_channel, channel * y_channel
    if LAYOUT.is_last:
        x += band * Y.reads * x_row
        y += band * Y.writes * y_row
    else:
        x_first += band * Y.reads * x_row
        y_first += band * Y.writes * y_row
    source = _columns(x_first, x_column, x_columns, unit, COLUMNS, X, LAYOUT)
    target = _targets(y_first, y_column, y_columns, unit, valid, COLUMNS * X.writes, X, LAYOUT)

    column_weights, row_weights = (), ()
    for q in tl.static_range(COLUMNS):
        column_weights = column_weights + (_weights(unit, units, q, COLUMNS, X, DTYPE),)
    for q in tl.static_range(ROWS):
        row_weights = row_weights + (_weights(band, row_units, q, ROWS, Y, DTYPE),)
    WRITTEN: tl.constexpr = COLUMNS * X.writes
    BAND: tl.constexpr = ROWS * Y.writes
    sums = ((tl.zeros([ITEMS, VECTOR], DTYPE),) * WRITTEN,) * BAND
    STEPS: tl.constexpr = (ROWS - 1) * Y.reads + Y.slots
    ahead = ()  # the source rows, of which the last few are not used yet
    for step in tl.static_range(STEPS + AHEAD):
        if step < STEPS:
            ahead = ahead + (_read(x, x_row, x_rows, band * Y.reads, step, STEPS, source, Y),)
        if step >= AHEAD:
            totals = _sums(ahead[step - AHEAD], column_weights, ITEMS, COLUMNS, X, LAYOUT, DTYPE)
            sums = _added(sums, totals, row_weights, step - AHEAD, Y)
            for i in tl.static_range(BAND):
                if step - AHEAD == i // Y.writes * Y.reads + Y.slots - 1:  # the row is complete
                    is_inside = True if i <= BAND - Y.writes else band * Y.writes + i < y_rows
                    _write(y + i * y_row, target, is_inside, sums[i], ITEMS, LAYOUT)


@triton.jit
def _divided(number: tl.tensor, divisor: tl.tensor) -> tl.tuple:
    """The quotient and the remainder of numbers that are not negative."""
    # Unsigned, since that takes fewer instructions.
    number, divisor = number.to(tl.uint32), divisor.to(tl.uint32)
    return (number // divisor).to(tl.int32), (number % divisor).to(tl.int32)


@triton.jit
def _weights(
    first: tl.tensor, units: tl.tensor, q: tl.constexpr, COUNT: tl.constexpr, axis: tl.constexpr, DTYPE: tl.constexpr
) -> tl.tuple:
    """The weights of one of ``COUNT`` units: for each position written, of each position read."""
    WRITES: tl.constexpr = axis.writes
    SLOTS: tl.constexpr = axis.slots
    BORDERS: tl.constexpr = len(axis.borders)
    rows = ()
    for i in tl.static_range(WRITES):
        row = ()
        for slot in tl.static_range(SLOTS):
            weight = tl.zeros_like(first).to(DTYPE) + axis.weights[i][slot]
            for b in tl.static_range(BORDERS):
                # All but the first or last of the units are too far from the border.
                near = COUNT - 1 - q if axis.borders[b].is_last else q
                if axis.borders[b].weights[i][slot] != 0 and near <= axis.borders[b].unit:
                    place = units - 1 - axis.borders[b].unit if axis.borders[b].is_last else axis.borders[b].unit
                    weight += tl.where(first + q == place, axis.borders[b].weights[i][slot], 0.0)
            row = row + (weight,)
        rows = rows + (row,)
    return rows


@triton.jit
def _columns(
    channel: tl.tensor, x_column: tl.tensor, x_columns: tl.tensor, unit: tl.tensor,
    COLUMNS: tl.constexpr, X: tl.constexpr, LAYOUT: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """The offsets, in two parts, and masks of the columns that an item reads; of a vector of columns, last."""
    WINDOW: tl.constexpr = (COLUMNS - 1) * X.reads + X.slots
    WIDTH: tl.constexpr = COLUMNS * X.reads
    first = channel + unit * X.reads * x_column
    everywhere = tl.full(unit.shape, True, tl.int1)
    offsets, shifts, masks = (), (), ()
    for i in tl.static_range(WINDOW):
        if not LAYOUT.is_wide or i < X.before or i >= X.before + WIDTH:
            place = unit * X.reads - X.before + i
            if i < X.before or i >= WINDOW - X.after:
                offsets, shifts = offsets + (channel + _copied(place, x_columns, X) * x_column,), shifts + (0,)
                masks = masks + (everywhere if X.is_padded else (place >= 0) & (place < x_columns),)
            else:
                # In two parts, since the instruction that reads adds a constant.
                offsets, shifts = offsets + (first,), shifts + ((i - X.before) * x_column,)
                masks = masks + (everywhere,)
    if LAYOUT.is_wide:
        offsets, shifts = offsets + (first + tl.arange(0, WIDTH)[None, :],), shifts + (0,)
        masks = masks + (everywhere,)
    return offsets, shifts, masks


@triton.jit
def _copied(place: tl.tensor, size: tl.tensor, axis: tl.constexpr) -> tl.tensor:
    """The position in the source that a position of the padded source copies."""
    FOLDS: tl.constexpr = axis.folds
    if axis.is_padded:
        for _ in tl.static_range(FOLDS):
            # where(), not abs(), which hides from the compiler that neighbouring threads read the same column.
            place = tl.where(place < 0, -place, place)
            place = tl.where(place < size, place, 2 * size - 2 - place)
        place = tl.minimum(tl.maximum(place, 0), size - 1)
    return place


@triton.jit
def _read(
    x: tl.tensor, x_row: tl.tensor, x_rows: tl.tensor, first: tl.tensor, step: tl.constexpr, STEPS: tl.constexpr,
    columns: tl.tuple, Y: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Read the columns of one of the rows that an item reads; all but those near the borders are in the source."""
    offsets, shifts, masks = columns[0], columns[1], columns[2]
    COUNT: tl.constexpr = len(offsets)
    place = first + (step - Y.before)
    if step >= Y.before and step < STEPS - Y.after:
        row, is_inside = x + (step - Y.before) * x_row, True
    else:
        row = x + (_copied(place, x_rows, Y) - first) * x_row
        is_inside = True if Y.is_padded else (place >= 0) & (place < x_rows)
    values = ()
    for i in tl.static_range(COUNT):
        values = values + (tl.load(row + offsets[i] + shifts[i], mask=masks[i] & is_inside, other=0.0),)
    return values


@triton.jit
def _sums(
    values: tl.tuple, weights: tl.tuple, ITEMS: tl.constexpr, COLUMNS: tl.constexpr, X: tl.constexpr,
    LAYOUT: tl.constexpr, DTYPE: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """The weighted sums of a row, one for each column that an item writes."""
    COUNT: tl.constexpr = len(values)
    BEFORE: tl.constexpr = X.before
    WIDTH: tl.constexpr = COLUMNS * X.reads
    columns = ()
    if LAYOUT.is_wide:
        for i in tl.static_range(BEFORE):
            columns = columns + (values[i].to(DTYPE),)
        columns = columns + _parts(values[COUNT - 1].to(DTYPE), ITEMS, WIDTH)
        for i in tl.static_range(BEFORE, COUNT - 1):
            columns = columns + (values[i].to(DTYPE),)
    else:
        for i in tl.static_range(COUNT):
            columns = columns + (values[i].to(DTYPE),)
    WRITTEN: tl.constexpr = COLUMNS * X.writes
    SLOTS: tl.constexpr = X.slots
    totals = ()
    for j in tl.static_range(WRITTEN):
        total = tl.zeros_like(columns[0])
        for slot in tl.static_range(SLOTS):
            weight = weights[j // X.writes][j % X.writes][slot]
            total = _plus(total, columns[j // X.writes * X.reads + slot], weight, X.uses[j % X.writes][slot])
        totals = totals + (total,)
    return totals


@triton.jit
def _added(sums: tl.tuple, totals: tl.tuple, weights: tl.tuple, step: tl.constexpr, Y: tl.constexpr) -> tl.tuple:
    """Add a row's sums to the rows of the band that use it."""
    ROWS: tl.constexpr = len(sums)
    added = ()
    for i in tl.static_range(ROWS):
        unit_weights = weights[i // Y.writes][i % Y.writes]
        added = added + (_added_to(sums[i], totals, unit_weights, i % Y.writes, step - i // Y.writes * Y.reads, Y),)
    return added


@triton.jit
def _added_to(
    sums: tl.tuple, totals: tl.tuple, weights: tl.tuple, i: tl.constexpr, slot: tl.constexpr, Y: tl.constexpr
) -> tl.tuple:
    """Add a row's sums to one row of the band, which reads it in a slot of its window, or outside it."""
    COLUMNS: tl.constexpr = len(totals)
    if slot < 0 or slot >= Y.slots:
        return sums
    else:
        added = ()
        for j in tl.static_range(COLUMNS):
            added = added + (_plus(sums[j], totals[j], weights[slot], Y.uses[i][slot]),)
        return added


@triton.jit
def _plus(total: tl.tensor, value: tl.tensor, weight: tl.tensor, USE: tl.constexpr) -> tl.tensor:
    """Add a weighted value, if its weight is used (`Axis.uses`)."""
    if USE == 1:
        total += value * weight
    if USE == 2:
        # where(), because 0 * value is NaN if a value elsewhere is infinite.
        total += tl.where(weight != 0, value, 0.0) * weight
    return total


@triton.jit
def _targets(
    channel: tl.tensor, y_column: tl.tensor, y_columns: tl.tensor, unit: tl.tensor, valid: tl.tensor,
    COUNT: tl.constexpr, X: tl.constexpr, LAYOUT: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """The offsets and masks of the columns that an item writes, as one vector or one by one."""
    column = unit * X.writes
    if LAYOUT.is_wide:
        return (channel + column + tl.arange(0, COUNT)[None, :],), (valid,)
    elif not LAYOUT.is_last and COUNT & (COUNT - 1) == 0:
        # Joined, so that neighbouring threads write neighbouring columns.
        columns = column + tl.arange(0, COUNT)[None, :]
        return (channel + columns * y_column,), (valid & (columns < y_columns),)
    else:
        offsets, masks = (), ()
        for j in tl.static_range(COUNT):
            offsets = offsets + (channel + (column + j) * y_column,)
            masks = masks + (valid & (column + j < y_columns),)
        return offsets, masks


@triton.jit
def _write(
    row: tl.tensor, targets: tl.tuple, is_inside: tl.tensor, values: tl.tuple,
    ITEMS: tl.constexpr, LAYOUT: tl.constexpr,
) -> None:  # fmt: skip
    """Write an item's columns of one row of the result."""
    COUNT: tl.constexpr = len(values)
    offsets, masks = targets[0], targets[1]
    if not LAYOUT.is_last and len(offsets) == 1:
        tl.store(row + offsets[0], _joined(values, ITEMS), mask=masks[0] & is_inside)
    else:
        for j in tl.static_range(COUNT):
            tl.store(row + offsets[j], values[j], mask=masks[j] & is_inside)


@triton.jit
def _parts(vectors: tl.tensor, ITEMS: tl.constexpr, WIDTH: tl.constexpr) -> tl.tuple:
    """The columns of vectors, each of shape (items, 1); their number is a power of two."""
    BITS: tl.constexpr = WIDTH.bit_length() - 1
    parts = (tl.reshape(vectors, [ITEMS] + [2] * BITS),)
    for _ in tl.static_range(BITS):
        parts = _split(parts)
    columns = ()
    for i in tl.static_range(WIDTH):
        columns = columns + (tl.reshape(parts[i], [ITEMS, 1]),)
    return columns


@triton.jit
def _split(parts: tl.tuple) -> tl.tuple:
    """Split the last axis of each part: all first halves, then all second halves."""
    COUNT: tl.constexpr = len(parts)
    first, second = (), ()
    for i in tl.static_range(COUNT):
        even, odd = tl.split(parts[i])
        first, second = first + (even,), second + (odd,)
    return first + second


@triton.jit
def _joined(columns: tl.tuple, ITEMS: tl.constexpr) -> tl.tensor:
    """The vectors of columns of shape (items, 1); their number is a power of two."""
    WIDTH: tl.constexpr = len(columns)
    BITS: tl.constexpr = WIDTH.bit_length() - 1
    parts = columns
    for _ in tl.static_range(BITS):
        parts = _join(parts)
    return tl.reshape(parts[0], [ITEMS, WIDTH])


@triton.jit
def _join(parts: tl.tuple) -> tl.tuple:
    """The inverse of `_split`."""
    HALF: tl.constexpr = len(parts) // 2
    joined = ()
    for i in tl.static_range(HALF):
        joined = joined + (tl.join(parts[i], parts[i + HALF]),)
    return joined
