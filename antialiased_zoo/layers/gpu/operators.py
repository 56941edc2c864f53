"""The kernel as two custom torch operators, the blur and its transpose; each is the other's gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch
import triton
import triton.language as tl
from torch import Tensor

from .axis import Axis, blur_axis, transposed_axis
from .kernel import blur_kernel

if not hasattr(triton, "knobs"):
    raise ImportError("the GPU kernels need Triton 3.4 or newer, which comes with torch 2.8: upgrade torch")

#: Device types that the kernel runs on; Triton's interpreter (TRITON_INTERPRET=1) runs on the CPU.
DEVICES = ("cuda", "cpu") if triton.knobs.runtime.interpret else ("cuda",)

# The most elements of a result row that a program computes: channels-last 1024 elements with up to 64
# channels, NCHW 512 elements with up to 128 columns. Chosen from the compiled code (registers,
# instructions, load width), not measured.
_LAST, _PLAIN = (1024, 64), (512, 128)

_Floats: TypeAlias = Sequence[float]
_Ints: TypeAlias = Sequence[int]


@torch.library.custom_op("antialiased_zoo::blur_pool2d", mutates_args=())
def blur_pool2d(
    x: Tensor, rows: Sequence[float], columns: Sequence[float], stride: Sequence[int], padding: Sequence[int], mode: str
) -> Tensor:
    """Blur a batch ``(N, C, H, W)``; ``rows`` and ``columns`` are the taps along the height and the width.

    ``padding`` holds the pixels before and after the rows, then the columns; ``stride`` and
    ``mode`` are as in `Blur`.
    """
    axes = [blur_axis(*axis, size) for axis, size in _axes(rows, columns, stride, padding, mode, x.shape[2:])]
    return _launch(x, _blurred(x, rows, columns, stride, padding, mode), *axes)


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
    axes = [transposed_axis(*axis, n) for axis, n in _axes(rows, columns, stride, padding, mode, size)]
    return _launch(grad, _empty(grad, size, channels_last), *axes)


def _axes(
    rows: _Floats, columns: _Floats, stride: _Ints, padding: _Ints, mode: str, size: _Ints
) -> Iterator[tuple[tuple[tuple[float, ...], int, tuple[int, int], str], int]]:
    """Yield the arguments of `blur_axis` for each of the two axes, and the size of the map along it."""
    sides = ((padding[0], padding[1]), (padding[2], padding[3]))
    for taps, s, around, n in zip((rows, columns), stride, sides, size, strict=True):
        yield (tuple(taps), s, around, mode), n


def _launch(x: Tensor, y: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """Run the kernel, which fills ``y``."""
    if y.numel() == 0:
        return y
    images, channels, height, width = y.shape
    pixels, planes = _tile(y)
    grid = (
        images * triton.cdiv(height, len(rows.starts)) * triton.cdiv(width, pixels) * triton.cdiv(channels, planes),
    )
    dtype = tl.float64 if x.dtype == torch.float64 else tl.float32
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]  # Triton launches on the current device
        blur_kernel[grid](
            x, *x.stride(), *x.shape[2:], y, *y.stride(), *y.shape[2:],
            channels, rows, columns, dtype, pixels, planes,
        )  # fmt: skip
    return y


def _tile(y: Tensor) -> tuple[int, int]:
    """Number of columns and channels of ``y`` that a program computes: powers of two."""
    pixels, planes = triton.next_power_of_2(y.shape[3]), triton.next_power_of_2(y.shape[1])
    elements, most = _LAST if _is_channels_last(y) else _PLAIN
    if _is_channels_last(y):
        planes = min(planes, most)
        return min(pixels, elements // planes), planes
    pixels = min(pixels, most)
    return pixels, min(planes, elements // pixels)


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
