"""The launch of the kernel: what a program computes, and the search for its compiled code, done once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import torch
import triton
import triton.language as tl
from torch import Tensor

from .axis import blur_axis, transposed_axis
from .kernel import blur_kernel

if not hasattr(triton, "knobs"):
    raise ImportError("the GPU kernels need Triton 3.4 or newer, which comes with torch 2.8: upgrade torch")

#: Device types that the kernel runs on; Triton's interpreter (TRITON_INTERPRET=1) runs on the CPU.
DEVICES = ("cuda", "cpu") if triton.knobs.runtime.interpret else ("cuda",)


class Tile(NamedTuple):
    """What a program computes.

    Attributes:
        rows: Number of rows of the result: each source row is read by few programs.
        elements: Number of elements of a row of the result.
        most: The most channels (channels-last) or columns (NCHW) among them, a power of two.
        warps: Number of warps that share the work.
    """

    rows: int
    elements: int
    most: int
    warps: int


# By layout (channels-last or not) and direction (transposed or not): the fastest of 36 on an H100 for maps of
# (128, 64, 112, 112) in bfloat16 (results/benchmark/gpu/h100.json); of NCHW transposed only this one was timed.
TILES = {
    (True, False): Tile(4, 512, 64, 2),
    (True, True): Tile(8, 512, 32, 4),
    (False, False): Tile(8, 256, 128, 4),
    (False, True): Tile(8, 512, 128, 4),
}

# The arguments of `blur_axis` and `transposed_axis` without the number of rows.
AxisFacts: TypeAlias = tuple[tuple[float, ...], int, tuple[int, int], str, int]


def run(x: Tensor, y: Tensor, rows: AxisFacts, columns: AxisFacts, transposed: bool) -> None:
    """Run the kernel, which fills ``y``."""
    if y.numel() == 0:
        return
    # Triton compiles differently for aligned pointers, and for strides of 1 and multiples of 16.
    key = (x.shape, x.stride(), y.shape, y.stride(), x.dtype, x.device, (x.data_ptr() | y.data_ptr()) % 16 == 0)
    launch = _launch(*key, rows, columns, transposed)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]  # Triton launches on the current device
        launch(x, y)


class _Launch:
    """The launch of the kernel for tensors of one kind; after the first, without Triton's search for its code."""

    def __init__(self, grid: tuple[int, int, int], of_x: tuple[int, ...], rest: tuple[Any, ...], warps: int) -> None:
        self.grid, self.of_x, self.rest, self.warps = grid, of_x, rest, warps
        self.compiled: Any = None

    def __call__(self, x: Tensor, y: Tensor) -> None:
        if self.compiled is None:  # in Triton's interpreter always
            self.compiled = blur_kernel[self.grid](x, *self.of_x, y, *self.rest, num_warps=self.warps)
        else:
            self.compiled[self.grid](x, *self.of_x, y, *self.rest)


@lru_cache(maxsize=4096)
def _launch(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    out: tuple[int, ...],
    out_strides: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    aligned: bool,
    rows: AxisFacts,
    columns: AxisFacts,
    transposed: bool,
) -> _Launch:
    """The launch for tensors of one kind."""
    images, channels, height, width = out
    is_last = out_strides[1] == 1 and channels > 1 and height * width > 1
    tile = TILES[is_last, transposed]
    make = transposed_axis if transposed else blur_axis
    y_axis, x_axis = make(*rows, tile.rows), make(*columns, tile.rows)
    pixels, planes = triton.next_power_of_2(width), triton.next_power_of_2(channels)
    if is_last:
        planes = min(planes, tile.most)
        pixels = min(pixels, tile.elements // planes)
    else:
        pixels = min(pixels, tile.most)
        planes = min(planes, tile.elements // pixels)
    grid = images * triton.cdiv(height, len(y_axis.starts)) * triton.cdiv(width, pixels) * triton.cdiv(channels, planes)
    precision = tl.float64 if dtype == torch.float64 else tl.float32
    of_y = (*out_strides, height, width)
    rest = (*of_y, channels, y_axis, x_axis, precision, pixels, planes)
    return _Launch((grid, 1, 1), (*strides, *shape[2:]), rest, tile.warps)


def is_channels_last(x: Tensor) -> bool:
    """True for a batch in channels-last that is not in NCHW too."""
    return x.shape[1] > 1 and x.stride(1) == 1 and not x.is_contiguous()


def empty(like: Tensor, size: Sequence[int], channels_last: bool) -> Tensor:
    """An empty batch of maps of this size, with as many images and channels as ``like``."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((*like.shape[:2], *size), dtype=like.dtype, device=like.device, memory_format=memory_format)
