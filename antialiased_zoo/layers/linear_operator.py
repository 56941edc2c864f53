"""A linear map with its transpose written out, as one operation for autograd."""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor

from .eligibility import needs_grad


class LinearMap(Protocol):
    """What maps a tensor linearly, and takes the result's gradient back."""

    def forward(self, x: Tensor) -> Tensor:
        """The result for ``x``."""

    def transpose(self, grad: Tensor) -> Tensor:
        """The gradient of ``x``, given the result's."""


def apply(linear: LinearMap, x: Tensor) -> Tensor:
    """The result for ``x``, differentiable any number of times."""
    return cast(Tensor, _Linear.apply(x, linear, False)) if needs_grad(x) else linear.forward(x)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: LinearMap, transposed: bool) -> Tensor:
        ctx.linear, ctx.transposed = linear, transposed
        return linear.transpose(x) if transposed else linear.forward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Linear.apply(grad, ctx.linear, not ctx.transposed), None, None
