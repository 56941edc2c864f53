"""A dense maximum and a blur of a whole map, some images at a time, so that temporaries stay in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from .axes import AxisBlur, AxisMax

# Input of one turn: more images at once spread an operation's fixed cost, fewer keep their temporaries in the cache.
_FORWARD_BYTES = 13 << 20
_BACKWARD_BYTES = 4 << 20

Step = Callable[[Tensor, Tensor], None]


@dataclass(frozen=True, eq=False)
class Pipeline:
    """What happens to a map ``(N, C, *spatial)``, axis by axis: dense maxima, then blurs.

    Attributes:
        maxima: The maximum along each axis; for a plain blur none.
        blurs: The blur along each axis.
        memory_format: Of results and temporaries.
    """

    maxima: tuple[AxisMax, ...]
    blurs: tuple[AxisBlur, ...]
    memory_format: torch.memory_format

    def __call__(self, x: Tensor) -> Tensor:
        """The result, differentiable any number of times."""
        if x.requires_grad and torch.is_grad_enabled():
            return cast(Tensor, _Forward.apply(x, None, self))
        return self.forward(x, None)

    def forward(self, x: Tensor, like: Tensor | None) -> Tensor:
        """The result; where ``like`` is given, its maxima's places say which values of ``x`` are taken."""
        chunk = _images(x, _FORWARD_BYTES)
        out = self._empty(x, len(x), self._sizes(x)[-1])
        temporaries = [self._empty(x, chunk, size) for size in self._sizes(x)[1:-1]]
        steps: list[Step] = [*(step.apply for step in self.maxima), *(step.apply for step in self.blurs)]
        taking = _Taking(self, like, chunk) if like is not None else None
        for part in _parts(x, chunk):
            if taking is not None:
                steps[: len(self.maxima)] = taking.bound(part, "select")
            _chain(steps, x[part], temporaries, out[part])
        return out

    def transpose(self, grad: Tensor, x: Tensor) -> Tensor:
        """The gradient of ``x``, given the result's; without maxima only the size of ``x`` counts."""
        grad = grad.contiguous(memory_format=self.memory_format)
        chunk = _images(x, _BACKWARD_BYTES)
        out = self._empty(grad, len(x), x.shape[2:])
        temporaries = [self._empty(grad, chunk, size) for size in self._sizes(x)[-2:0:-1]]
        steps: list[Step] = [step.transpose for step in reversed(self.blurs)]
        taking = _Taking(self, x, chunk) if self.maxima else None
        for part in _parts(x, chunk):
            if taking is not None:
                steps[len(self.blurs) :] = taking.bound(part, "transpose")[::-1]
            _chain(steps, grad[part], temporaries, out[part])
        return out

    def _sizes(self, x: Tensor) -> list[list[int]]:
        """The spatial size before, between and after the steps."""
        sizes = [list(x.shape[2:])]
        steps: tuple[AxisMax | AxisBlur, ...] = (*self.maxima, *self.blurs)
        for step in steps:
            sizes.append(sizes[-1].copy())
            sizes[-1][step.axis - 2] = step.out
        return sizes

    def _empty(self, x: Tensor, images: int, size: Sequence[int]) -> Tensor:
        shape = (images, x.shape[1], *size)
        return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=self.memory_format)


class _Taking:
    """Which values of ``x`` the maxima take, found anew for one part of ``x`` at a time."""

    def __init__(self, pipeline: Pipeline, x: Tensor, chunk: int) -> None:
        self.x = x
        self.maxima = pipeline.maxima
        sizes = pipeline._sizes(x)[1 : 1 + len(self.maxima)]
        self.values = [pipeline._empty(x, chunk, size) for size in sizes]
        self.takes = [step.empty_takes(value) for step, value in zip(self.maxima, self.values, strict=True)]

    def bound(self, part: slice, method: str) -> list[Step]:
        """The named method of each maximum, with the takes of this part of ``x``."""
        source = self.x[part]
        bound: list[Step] = []
        for step, value, takes in zip(self.maxima, self.values, self.takes, strict=True):
            cut = [take[: len(source)] for take in takes]
            step.apply(source, value[: len(source)], cut)
            bound.append(partial(getattr(step, method), takes=cut))
            source = value[: len(source)]
        return bound


def _images(x: Tensor, most_bytes: int) -> int:
    """How many images of ``x`` make one part."""
    image = x[:1].numel() * x.element_size()
    return max(1, min(len(x), most_bytes // max(1, image)))


def _parts(x: Tensor, images: int) -> Iterator[slice]:
    return (slice(start, min(start + images, len(x))) for start in range(0, len(x), images))


def _chain(steps: Sequence[Step], source: Tensor, temporaries: Sequence[Tensor], out: Tensor) -> None:
    """Run steps one after the other; ``temporaries`` hold what is between them."""
    for step, temporary in zip(steps[:-1], temporaries, strict=True):
        target = temporary[: len(source)]
        step(source, target)
        source = target
    steps[-1](source, out)


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, like: Tensor | None, pipeline: Pipeline) -> Tensor:
        ctx.pipeline, ctx.shape = pipeline, x.shape
        # A nonlinearity before the pool has kept x anyway; a plain blur needs its size alone.
        ctx.save_for_backward(*([x if like is None else like] if pipeline.maxima else []))
        return pipeline.forward(x, like)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x = ctx.saved_tensors[0] if ctx.saved_tensors else grad.new_empty(()).expand(ctx.shape)
        return _Backward.apply(grad, x, ctx.pipeline), None, None


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, pipeline: Pipeline) -> Tensor:
        ctx.pipeline = pipeline
        ctx.save_for_backward(x)
        return pipeline.transpose(grad, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        like = ctx.saved_tensors[0] if ctx.pipeline.maxima else None
        return _Forward.apply(grad, like, ctx.pipeline), None, None
