"""A dense maximum and a blur of a whole map, some images at a time, so that temporaries stay in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from ..chunks import at_once, parts
from ..eligibility import needs_grad
from .maxima import AxisMax
from .padded_blur import PaddedBlur

# Input of one turn: more images at once spread an operation's fixed cost, fewer keep their temporaries in the cache.
_FORWARD_BYTES = 7 << 20
_BACKWARD_BYTES = 4 << 20

Step = Callable[[Tensor, Tensor], None]


@dataclass(frozen=True, eq=False)
class DensePool:
    """The dense maxima of maps ``(N, C, *spatial)``, axis by axis, then their blur.

    Attributes:
        maxima: The maximum along each axis, one or more.
        blur: The blur of what they give.
    """

    maxima: tuple[AxisMax, ...]
    blur: PaddedBlur

    def __call__(self, x: Tensor) -> Tensor:
        """The result, differentiable any number of times."""
        if needs_grad(x):
            return cast(Tensor, _Forward.apply(x, None, self))
        return self.forward(x, None)

    def forward(self, x: Tensor, like: Tensor | None) -> Tensor:
        """The result; where ``like`` is given, its maxima's places say which values of ``x`` are taken."""
        images = at_once(x, _FORWARD_BYTES)
        out = self._empty(x, len(x), self.blur.out)
        between = [self._empty(x, images, size) for size in self._sizes(x)[1:-1]]
        buffer = self.blur.buffer(images)
        maps = [*between, self.blur.inside(buffer)]
        steps: list[Step] = [step.apply for step in self.maxima]
        taking = _Taking(self, like, images) if like is not None else None
        for part in parts(x, images):
            if taking is not None:
                steps = taking.bound(part, "select")
            now = x[part]
            _chain(steps, now, [each[: len(now)] for each in maps])
            out[part] = self.blur.apply(buffer[: len(now)])
        return out

    def transpose(self, grad: Tensor, x: Tensor) -> Tensor:
        """The gradient of ``x``, given the result's."""
        images = at_once(x, _BACKWARD_BYTES)
        out = self._empty(x, len(x), x.shape[2:])
        between = [self._empty(x, images, size) for size in self._sizes(x)[-2:0:-1]]
        taking = _Taking(self, x, images)
        for part in parts(x, images):
            now = self.blur.transpose(grad[part])
            _chain(taking.bound(part, "transpose")[::-1], now, [*(each[: len(now)] for each in between), out[part]])
        return out

    def _sizes(self, x: Tensor) -> list[list[int]]:
        """The spatial size before, between and after the maxima."""
        sizes = [list(x.shape[2:])]
        for step in self.maxima:
            sizes.append(sizes[-1].copy())
            sizes[-1][step.axis - 2] = step.out
        return sizes

    def _empty(self, x: Tensor, images: int, size: Sequence[int]) -> Tensor:
        shape = (images, x.shape[1], *size)
        return torch.empty(shape, dtype=x.dtype, memory_format=self.blur.memory_format)


class _Taking:
    """Which values of ``x`` the maxima take, found anew for one part of ``x`` at a time."""

    def __init__(self, pool: DensePool, x: Tensor, images: int) -> None:
        self.x = x
        self.maxima = pool.maxima
        self.values = [pool._empty(x, images, size) for size in pool._sizes(x)[1:]]
        self.takes = [step.empty_takes(value) for step, value in zip(self.maxima, self.values, strict=True)]

    def bound(self, part: slice, method: str) -> list[Step]:
        """The named method of each maximum, with the takes of this part of ``x``."""
        source = self.x[part]
        bound: list[Step] = []
        for step, value, takes in zip(self.maxima, self.values, self.takes, strict=True):
            cut = [take[: len(source)] for take in takes]
            step.apply(source, value[: len(source)], cut, takes_only=step is self.maxima[-1])
            bound.append(partial(getattr(step, method), takes=cut))
            source = value[: len(source)]
        return bound


def _chain(steps: Sequence[Step], source: Tensor, targets: Sequence[Tensor]) -> None:
    """Run steps one after the other, each into its target."""
    for step, target in zip(steps, targets, strict=True):
        step(source, target)
        source = target


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, like: Tensor | None, pool: DensePool) -> Tensor:
        ctx.pool = pool
        ctx.save_for_backward(x if like is None else like)  # a nonlinearity before the pool has kept x anyway
        return pool.forward(x, like)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Backward.apply(grad, *ctx.saved_tensors, ctx.pool), None, None


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, pool: DensePool) -> Tensor:
        ctx.pool = pool
        ctx.save_for_backward(x)
        return pool.transpose(grad, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Forward.apply(grad, *ctx.saved_tensors, ctx.pool), None, None
