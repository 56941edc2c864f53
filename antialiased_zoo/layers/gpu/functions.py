"""The kernel without torch's dispatcher, which takes longer than the kernel on small maps."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from ..filters import Blur
from .launch import DEVICES as DEVICES
from .launch import Target, is_channels_last, run


def blur_pool(x: Tensor, blur: Blur) -> Tensor:
    """Blur a batch ``(N, C, H, W)``, differentiably any number of times."""
    if x.requires_grad and torch.is_grad_enabled():
        return cast(Tensor, _Blurred.apply(x, blur))
    return run(x, blur)


class _Blurred(torch.autograd.Function):
    """The blur; `_Transposed` is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, blur: Blur) -> Tensor:
        ctx.blur, ctx.target = blur, Target(x.shape[2:], is_channels_last(x))
        return run(x, blur)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if grad.requires_grad and torch.is_grad_enabled():
            return cast(Tensor, _Transposed.apply(grad, ctx.blur, ctx.target)), None
        return run(grad, ctx.blur, ctx.target), None


class _Transposed(torch.autograd.Function):
    """The transposed blur, whose gradient is the blur."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, blur: Blur, target: Target) -> Tensor:
        ctx.blur = blur
        return run(grad, blur, target)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return blur_pool(grad, ctx.blur), None, None
