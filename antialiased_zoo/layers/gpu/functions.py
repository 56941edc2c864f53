"""The kernel without torch's dispatcher, which takes longer than the kernel on small maps."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from ..filters import Blur
from .launch import DEVICES as DEVICES
from .launch import AxisFacts, empty, is_channels_last, run


def blur_pool(x: Tensor, blur: Blur) -> Tensor:
    """Blur a batch ``(N, C, H, W)``, differentiably any number of times."""
    if x.requires_grad and torch.is_grad_enabled():
        return cast(Tensor, _Blurred.apply(x, blur))
    return _Blurred.compute(x, blur)


class _Blurred(torch.autograd.Function):
    """The blur; `_Transposed` is its gradient."""

    @staticmethod
    def compute(x: Tensor, blur: Blur) -> Tensor:
        y = empty(x, blur.out_size(x.shape[2:]), is_channels_last(x))
        run(x, y, *_axes_of(blur, x.shape[2:]), False)
        return y

    @staticmethod
    def forward(ctx: Any, x: Tensor, blur: Blur) -> Tensor:
        ctx.blur, ctx.size, ctx.channels_last = blur, x.shape[2:], is_channels_last(x)
        return _Blurred.compute(x, blur)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return cast(Tensor, _Transposed.apply(grad, ctx.blur, ctx.size, ctx.channels_last)), None


class _Transposed(torch.autograd.Function):
    """The transposed blur, whose gradient is the blur."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, blur: Blur, size: torch.Size, channels_last: bool) -> Tensor:
        ctx.blur = blur
        y = empty(grad, size, channels_last)
        run(grad, y, *_axes_of(blur, size), True)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return cast(Tensor, _Blurred.apply(grad, ctx.blur)), None, None, None


def _axes_of(blur: Blur, size: torch.Size) -> tuple[AxisFacts, AxisFacts]:
    """The two axes of a blur of maps of this size."""
    rows, columns = zip(blur.taps, blur.stride, blur.padding, (blur.mode,) * 2, size, strict=True)
    return rows, columns
