"""ReLU6 in place, without the copy that torch keeps of its input."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from .tensors import is_plain, needs_grad


class InPlaceReLU6(nn.ReLU6):
    """`nn.ReLU6`, with a gradient that needs the result alone.

    While gradients are recorded, torch's in-place `relu6` copies its input first, for its derivative; in MobileNetV2
    that is one map in three of a training step's memory. The result says as well where the slope is 0. As after
    `nn.ReLU`, what changes the result in place before the backward pass makes torch raise an error there.

    Example:
        >>> x = torch.tensor([-1.0, 2.0, 7.0], requires_grad=True)
        >>> InPlaceReLU6(inplace=True)(x * 1).sum().backward()
        >>> x.grad
        tensor([0., 1., 0.])
    """

    def forward(self, input: Tensor) -> Tensor:
        """``input`` clamped to 0 to 6, in place where the module was made so."""
        if self.inplace and isinstance(input, Tensor) and needs_grad(input) and is_plain(input):
            return cast(Tensor, _Clamp.apply(input))
        return super().forward(input)


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x.clamp_(0, 6))
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return cast(Tensor, torch.ops.aten.hardtanh_backward(grad, y, 0, 6))
