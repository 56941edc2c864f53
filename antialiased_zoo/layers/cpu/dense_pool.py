"""Dense max pooling (stride 1) fused with a blur, one chunk of images at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from ..eligibility import layout_of, needs_grad
from ..filters import Blur
from ..window import Window
from .maxima import AxisMax, axis_max
from .padded_blur import PaddedBlur, padded_blur

# Bytes of input in one chunk: large enough to spread the fixed cost of each operation, small enough
# to stay in the cache.
_FORWARD_BYTES = 7 << 20
_BACKWARD_BYTES = 4 << 20

Step = Callable[[Tensor, Tensor], None]


def dense_max_blur_pool(x: Tensor, window: Window, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """Dense maximum over ``window``, then the blur, of ordinary float32 maps ``(N, C, *spatial)`` on a CPU."""
    missing = window.missing(x.shape[2:], blur.stride)
    size = tuple(dense + more for dense, more in zip(window.dense_size(x.shape[2:]), missing, strict=True))
    maxima = tuple(_maxima(x, window, missing))
    return DensePool(maxima, padded_blur(blur, size, x.shape[1], x.dtype, layout_of(x)))(x)


def _maxima(x: Tensor, window: Window, missing: Sequence[int]) -> Iterator[AxisMax]:
    """The maximum along each axis, last axis first, so that ties are broken as in torch's pools."""
    axes = zip(x.shape[2:], window.size, window.dilation, window.padding, missing, strict=True)
    for axis, (n, size, dilation, padding, more) in reversed(list(enumerate(axes, start=2))):
        if size > 1 or more:
            yield axis_max(axis, n, size, dilation, (padding, padding + more))


def _images_in(x: Tensor, most_bytes: int) -> int:
    """Number of images of ``x`` in one chunk."""
    image = x[:1].numel() * x.element_size()
    return max(1, min(len(x), most_bytes // max(1, image)))


def _chunks(x: Tensor, images: int) -> Iterator[slice]:
    return (slice(start, min(start + images, len(x))) for start in range(0, len(x), images))


@dataclass(frozen=True, eq=False)
class DensePool:
    """The dense maxima of maps ``(N, C, *spatial)``, axis by axis, then their blur.

    Attributes:
        maxima: The maximum along each axis, one or more.
        blur: The blur of the maxima.
    """

    maxima: tuple[AxisMax, ...]
    blur: PaddedBlur

    def __call__(self, x: Tensor) -> Tensor:
        """The blurred maxima, differentiable any number of times."""
        if needs_grad(x):
            return cast(Tensor, _Forward.apply(x, None, self))
        return self.forward(x, None)

    def forward(self, x: Tensor, like: Tensor | None) -> Tensor:
        """The blurred maxima; with ``like``, the blurred values of ``x`` at the positions of the maxima of ``like``."""
        images = _images_in(x, _FORWARD_BYTES)
        out = self._empty(x, len(x), self.blur.out)
        between = [self._empty(x, images, size) for size in self._sizes(x)[1:-1]]
        buffer = self.blur.buffer(images)
        maps = [*between, self.blur.inside(buffer)]
        steps: list[Step] = [step.apply for step in self.maxima]
        masked = _Masks(self, like, images) if like is not None else None
        for chunk in _chunks(x, images):
            if masked is not None:
                steps = masked.bound(chunk, "select")
            now = x[chunk]
            _chain(steps, now, [each[: len(now)] for each in maps])
            out[chunk] = self.blur.apply(buffer[: len(now)])
        return out

    def transpose(self, grad: Tensor, x: Tensor) -> Tensor:
        """The gradient of ``x``, given the gradient of the result."""
        images = _images_in(x, _BACKWARD_BYTES)
        out = self._empty(x, len(x), x.shape[2:])
        between = [self._empty(x, images, size) for size in self._sizes(x)[-2:0:-1]]
        masked = _Masks(self, x, images)
        for chunk in _chunks(x, images):
            now = self.blur.transpose(grad[chunk])
            _chain(masked.bound(chunk, "transpose")[::-1], now, [*(each[: len(now)] for each in between), out[chunk]])
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


class _Masks:
    """Masks of the values of ``x`` that are maxima, computed again for each chunk."""

    def __init__(self, pool: DensePool, x: Tensor, images: int) -> None:
        self.x = x
        self.maxima = pool.maxima
        self.values = [pool._empty(x, images, size) for size in pool._sizes(x)[1:]]
        self.masks = [step.empty_masks(value) for step, value in zip(self.maxima, self.values, strict=True)]

    def bound(self, chunk: slice, method: str) -> list[Step]:
        """The named method of each maximum, bound to the masks of this chunk of ``x``."""
        source = self.x[chunk]
        bound: list[Step] = []
        for step, value, masks in zip(self.maxima, self.values, self.masks, strict=True):
            cut = [mask[: len(source)] for mask in masks]
            step.apply(source, value[: len(source)], cut, masks_only=step is self.maxima[-1])
            bound.append(partial(getattr(step, method), masks=cut))
            source = value[: len(source)]
        return bound


def _chain(steps: Sequence[Step], source: Tensor, targets: Sequence[Tensor]) -> None:
    """Run the steps in order, each from the previous result into its target."""
    for step, target in zip(steps, targets, strict=True):
        step(source, target)
        source = target


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, like: Tensor | None, pool: DensePool) -> Tensor:
        ctx.pool = pool
        ctx.save_for_backward(x if like is None else like)  # a nonlinearity before the pool saves x anyway
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
