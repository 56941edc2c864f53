"""The kernel as two custom torch operators, the blur and its transpose; each is the other's gradient."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, cast

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..filters import Blur
from .axis import blur_axis, transposed_axis
from .kernel import blur_kernel

if not hasattr(triton, "knobs"):
    raise ImportError("the GPU kernels need Triton 3.4 or newer, which comes with torch 2.8: upgrade torch")

#: Device types that the kernel runs on; Triton's interpreter (TRITON_INTERPRET=1) runs on the CPU.
DEVICES = ("cuda", "cpu") if triton.knobs.runtime.interpret else ("cuda",)

_Floats: TypeAlias = Sequence[float]
_Ints: TypeAlias = Sequence[int]


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
_AxisFacts: TypeAlias = tuple[tuple[float, ...], int, tuple[int, int], str, int]


@torch.library.custom_op("antialiased_zoo::blur_pool2d", mutates_args=())
def blur_pool2d(
    x: Tensor, rows: Sequence[float], columns: Sequence[float], stride: Sequence[int], padding: Sequence[int], mode: str
) -> Tensor:
    """Blur a batch ``(N, C, H, W)``; ``rows`` and ``columns`` are the taps along the height and the width.

    ``padding`` holds the pixels before and after the rows, then the columns; ``stride`` and
    ``mode`` are as in `Blur`.
    """
    y: Tensor = _blurred(x, rows, columns, stride, padding, mode)
    _run(x, y, *_axes(rows, columns, stride, padding, mode, x.shape[2:]), False)
    return y


@torch.library.custom_op("antialiased_zoo::blur_pool2d_transposed", mutates_args=())
def blur_pool2d_transposed(
    grad: Tensor,
    size: Sequence[int],
    channels_last: bool,
    rows: Sequence[float],
    columns: Sequence[float],
    stride: Sequence[int],
    padding: Sequence[int],
    mode: str,
) -> Tensor:
    """The gradient of `blur_pool2d` for a map of the given size and layout."""
    y = _empty(grad, size, channels_last)
    _run(grad, y, *_axes(rows, columns, stride, padding, mode, size), True)
    return y


def _axes(
    rows: _Floats, columns: _Floats, stride: _Ints, padding: _Ints, mode: str, size: _Ints
) -> tuple[_AxisFacts, _AxisFacts]:
    """The two axes of a blur of maps of this size."""
    return (
        (tuple(rows), stride[0], (padding[0], padding[1]), mode, size[0]),
        (tuple(columns), stride[1], (padding[2], padding[3]), mode, size[1]),
    )


def _run(x: Tensor, y: Tensor, rows: _AxisFacts, columns: _AxisFacts, transposed: bool) -> None:
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
    rows: _AxisFacts,
    columns: _AxisFacts,
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


def blur_pool(x: Tensor, blur: Blur) -> Tensor:
    """Blur a batch without torch's dispatcher, which takes longer than the kernel on small maps."""
    if x.requires_grad and torch.is_grad_enabled():
        return cast(Tensor, _Blurred.apply(x, blur))
    return _Blurred.compute(x, blur)


class _Blurred(torch.autograd.Function):
    """The blur outside of torch's dispatcher."""

    @staticmethod
    def compute(x: Tensor, blur: Blur) -> Tensor:
        y = _empty(x, blur.out_size(x.shape[2:]), _is_channels_last(x))
        _run(x, y, *_axes_of(blur, x.shape[2:]), False)
        return y

    @staticmethod
    def forward(ctx: Any, x: Tensor, blur: Blur) -> Tensor:
        ctx.blur, ctx.size, ctx.channels_last = blur, x.shape[2:], _is_channels_last(x)
        return _Blurred.compute(x, blur)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return cast(Tensor, _Transposed.apply(grad, ctx.blur, ctx.size, ctx.channels_last)), None


class _Transposed(torch.autograd.Function):
    """Its gradient."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, blur: Blur, size: torch.Size, channels_last: bool) -> Tensor:
        ctx.blur = blur
        y = _empty(grad, size, channels_last)
        _run(grad, y, *_axes_of(blur, size), True)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return cast(Tensor, _Blurred.apply(grad, ctx.blur)), None, None, None


def _axes_of(blur: Blur, size: torch.Size) -> tuple[_AxisFacts, _AxisFacts]:
    """The two axes of a blur of maps of this size."""
    rows, columns = zip(blur.taps, blur.stride, blur.padding, (blur.mode,) * 2, size, strict=True)
    return rows, columns


def _is_channels_last(x: Tensor) -> bool:
    return x.shape[1] > 1 and x.stride(1) == 1 and not x.is_contiguous()


def _empty(like: Tensor, size: _Ints, channels_last: bool) -> Tensor:
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((*like.shape[:2], *size), dtype=like.dtype, device=like.device, memory_format=memory_format)


@blur_pool2d.register_fake
def _blurred(x: Tensor, rows: _Floats, columns: _Floats, stride: _Ints, padding: _Ints, mode: str) -> Tensor:
    axes = zip(x.shape[2:], (rows, columns), stride, (sum(padding[:2]), sum(padding[2:])), strict=True)
    return _empty(x, [(n + around - len(taps)) // s + 1 for n, taps, s, around in axes], _is_channels_last(x))


@blur_pool2d_transposed.register_fake
def _unblurred(grad: Tensor, size: _Ints, channels_last: bool, *blur: Any) -> Tensor:
    return _empty(grad, size, channels_last)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, *ctx.blur = inputs
    ctx.size, ctx.channels_last = x.shape[2:], _is_channels_last(x)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return blur_pool2d_transposed(grad, ctx.size, ctx.channels_last, *ctx.blur), *[None] * 5


def _keep_transposed(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.blur = inputs[3:]


def _transposed_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return blur_pool2d(grad, *ctx.blur), *[None] * 7


blur_pool2d.register_autograd(_gradient, setup_context=_keep)
blur_pool2d_transposed.register_autograd(_transposed_gradient, setup_context=_keep_transposed)
