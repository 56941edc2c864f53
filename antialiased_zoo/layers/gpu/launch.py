"""The launch of the kernel: what a program computes, and the search for its compiled code, done once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..filters import Blur
from .axis import Axis, blur_axis, transposed_axis
from .kernel import blur_kernel

if not hasattr(triton, "knobs"):
    raise ImportError("the GPU kernels need Triton 3.4 or newer, which comes with torch 2.8: upgrade torch")

#: Device types that the kernel runs on; Triton's interpreter (TRITON_INTERPRET=1) runs on the CPU.
DEVICES = ("cuda", "cpu") if triton.knobs.runtime.interpret else ("cuda",)


class Tile(NamedTuple):
    """What a program computes.

    Attributes:
        rows: The most units of rows of a thread.
        columns: The most units of columns of a thread, where it does not read vectors of columns.
        warps: Number of warps of 32 threads; each thread computes an item.
        ahead: Number of rows that are read before they are needed.
    """

    rows: int
    columns: int
    warps: int
    ahead: int


# By what a thread reads and writes at once, and direction (transposed or not): those that do best on an H100 in
# bfloat16 for maps of 28 to 223 pixels (results/benchmark/gpu/tiles.json).
TILES = {
    ("channels", False): Tile(rows=2, columns=1, warps=1, ahead=2),
    ("channels", True): Tile(rows=2, columns=1, warps=4, ahead=1),
    ("16 bytes of columns", False): Tile(rows=2, columns=1, warps=1, ahead=2),
    ("16 bytes of columns", True): Tile(rows=1, columns=1, warps=8, ahead=1),
    ("fewer columns", False): Tile(rows=2, columns=1, warps=8, ahead=2),
    ("fewer columns", True): Tile(rows=2, columns=1, warps=8, ahead=1),
    ("a column", False): Tile(rows=4, columns=2, warps=4, ahead=2),
    ("a column", True): Tile(rows=4, columns=2, warps=8, ahead=3),
}
_MOST_IMAGES = 65_535  # CUDA's limit for the second axis of a grid
# The most vectors of channels of a program in channels-last: its items share the columns that they read.
_GROUP = 8


class Layout(NamedTuple):
    """How threads read and write maps.

    Attributes:
        is_last: True for channels-last.
        is_wide: True if they read and write vectors of columns.
        vector: Number of channels that they read and write at once.
        x_align: Divides the source's strides, except that of the elements of a vector; 1 if that helps nothing.
        y_align: The same for the result.
    """

    is_last: bool
    is_wide: bool
    vector: int
    x_align: int
    y_align: int

    def kind(self, most: int) -> str:
        """The kind of layout in `TILES`; ``most`` elements have 16 bytes."""
        if self.is_last:
            return "channels"
        if self.is_wide:
            return "16 bytes of columns" if max(self.x_align, self.y_align) == most else "fewer columns"
        return "a column"


class Target(NamedTuple):
    """The map whose gradient a transposed blur computes: its spatial size, and True for channels-last."""

    size: tuple[int, ...]
    is_last: bool


def run(x: Tensor, blur: Blur, target: Target | None = None) -> Tensor:
    """Blur a batch; or apply the transposed blur, which gives a map like the target."""
    plan = _plan(x.shape, x.stride(), x.dtype, x.device, x.data_ptr() % 16 == 0, blur, target)
    y = torch.empty_strided(plan.shape, plan.strides, dtype=x.dtype, device=x.device)
    if plan.launch is not None:
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]  # Triton launches on the current device
            plan.launch(x, y)
    return y


def is_channels_last(x: Tensor) -> bool:
    """True for a batch in channels-last that is not in NCHW too."""
    return x.shape[1] > 1 and x.stride(1) == 1 and not x.is_contiguous()


def empty(like: Tensor, size: Sequence[int], channels_last: bool) -> Tensor:
    """An empty batch of maps of this size, with as many images and channels as ``like``."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((*like.shape[:2], *size), dtype=like.dtype, device=like.device, memory_format=memory_format)


class _Launch:
    """The launch of the kernel for tensors of one kind; after the first, without Triton's search for its code."""

    def __init__(self, grid: tuple[int, int, int], of_x: tuple[int, ...], rest: tuple[Any, ...], warps: int) -> None:
        self.grid, self.of_x, self.rest, self.warps = grid, of_x, rest, warps
        self.runner: Any = None

    def __call__(self, x: Tensor, y: Tensor) -> None:
        if self.runner is not None:
            self.runner(x, *self.of_x, y, *self.rest)
            return
        compiled = blur_kernel[self.grid](x, *self.of_x, y, *self.rest, num_warps=self.warps)
        if compiled is not None:  # Triton's interpreter compiles nothing
            self.runner = compiled[self.grid]


class _Plan(NamedTuple):
    """The result's shape and strides, and the launch that fills it; None if it is empty."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    launch: _Launch | None


@lru_cache(maxsize=4096)
def _plan(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    is_aligned: bool,
    blur: Blur,
    target: Target | None,
) -> _Plan:
    """The plan for tensors of one kind; Triton compiles differently for addresses that 16 bytes divide."""
    x = torch.empty_strided(shape, strides, device="meta")
    size, is_last = target or Target(tuple(blur.out_size(shape[2:])), is_channels_last(x))
    y = empty(x, size, is_last)
    source = _Source(shape, strides, 16 // dtype.itemsize, is_aligned)
    launch = _launch(source, y, dtype, blur, target) if y.numel() else None
    return _Plan(tuple(y.shape), y.stride(), launch)


def _launch(source: _Source, y: Tensor, dtype: torch.dtype, blur: Blur, target: Target | None) -> _Launch:
    """The launch that fills ``y``, a tensor without data."""
    images, channels, height, width = y.shape
    is_last = is_channels_last(y)
    size = target.size if target else source.shape[2:]
    axes = zip(blur.taps, blur.stride, blur.padding, (blur.mode,) * 2, size, strict=True)
    y_axis, x_axis = ((transposed_axis if target else blur_axis)(facts) for facts in axes)
    layout, units = (_channel_vectors(source), 1) if is_last else _column_vectors(source, width, x_axis)
    tile = TILES[layout.kind(source.most), target is not None]
    if not layout.is_wide:
        units = min(tile.columns, triton.cdiv(width, x_axis.writes))
    band = min(tile.rows, triton.cdiv(height, y_axis.writes))
    vectors, blocks = channels // layout.vector, triton.cdiv(width, units * x_axis.writes)
    bands, items = triton.cdiv(height, band * y_axis.writes), 32 * tile.warps
    group = triton.cdiv(vectors, triton.cdiv(vectors, _GROUP))
    if is_last:
        programs = bands * triton.cdiv(vectors, group) * triton.cdiv(blocks * group, items)
    else:
        programs = triton.cdiv(vectors * bands * blocks, items)
    grid = (programs, min(images, _MOST_IMAGES), triton.cdiv(images, _MOST_IMAGES))
    along = 1 if is_last else 3  # the axis of the elements of a vector
    x_strides = [n if i == along else n // layout.x_align for i, n in enumerate(source.strides)]
    y_strides = [n if i == along else n // layout.y_align for i, n in enumerate(y.stride())]
    precision = tl.float64 if dtype == torch.float64 else tl.float32
    constants = (y_axis, x_axis, layout, precision, band, units, 32 * tile.warps, tile.ahead)
    rest = (*y_strides, height, width, images, vectors, group, *constants)
    return _Launch(grid, (*x_strides, *source.shape[2:]), rest, tile.warps)


class _Source(NamedTuple):
    """A source: its sizes and strides, the most elements of a vector, and True if its address divides by 16 bytes."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    most: int
    is_aligned: bool

    def holds(self, vector: int, along: int) -> bool:
        """True if it can be read in vectors of so many elements along an axis."""
        others = (n for i, n in enumerate(self.strides) if i != along)
        return self.is_aligned and self.strides[along] == 1 and not any(n % vector for n in others)


def _channel_vectors(source: _Source) -> Layout:
    """The widest vectors of channels."""
    vector = math.gcd(source.shape[1], source.most)
    return Layout(True, False, vector, vector if source.holds(vector, along=1) else 1, vector)


def _column_vectors(source: _Source, width: int, axis: Axis) -> tuple[Layout, int]:
    """The widest vectors of columns, and the units in each; single columns if the rows are not aligned."""
    longer = max(axis.reads, axis.writes)
    units = source.most // longer if longer & (longer - 1) == 0 else 0
    while units * longer > 1:
        reads, writes = units * axis.reads, units * axis.writes
        is_whole = source.shape[3] % reads == 0 and source.shape[3] // reads * writes == width
        if is_whole and axis.before >= 0 and source.holds(reads, along=3):
            return Layout(False, True, 1, reads, writes), units
        units //= 2
    return Layout(False, False, 1, 1, 1), 1
