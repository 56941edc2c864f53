"""The kernel as two custom torch operators, the blur and its transpose; each is the other's gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..filters import Blur
from .launch import Target, empty, is_channels_last, run

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
    return run(x, _blur(rows, columns, stride, padding, mode))


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
    return run(grad, _blur(rows, columns, stride, padding, mode), Target(tuple(size), channels_last))


def _blur(rows: _Floats, columns: _Floats, stride: _Ints, padding: _Ints, mode: str) -> Blur:
    around = ((padding[0], padding[1]), (padding[2], padding[3]))
    return Blur((tuple(rows), tuple(columns)), tuple(stride), around, mode)


@blur_pool2d.register_fake
def _blurred(x: Tensor, rows: _Floats, columns: _Floats, stride: _Ints, padding: _Ints, mode: str) -> Tensor:
    size = _blur(rows, columns, stride, padding, mode).out_size(x.shape[2:])
    return empty(x, size, is_channels_last(x))


@blur_pool2d_transposed.register_fake
def _unblurred(grad: Tensor, size: _Ints, channels_last: bool, *blur: Any) -> Tensor:
    return empty(grad, size, channels_last)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, *ctx.blur = inputs
    ctx.size, ctx.channels_last = x.shape[2:], is_channels_last(x)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return blur_pool2d_transposed(grad, ctx.size, ctx.channels_last, *ctx.blur), *[None] * 5


def _keep_transposed(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.blur = inputs[3:]


def _transposed_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return blur_pool2d(grad, *ctx.blur), *[None] * 7


blur_pool2d.register_autograd(_gradient, setup_context=_keep)
blur_pool2d_transposed.register_autograd(_transposed_gradient, setup_context=_keep_transposed)
