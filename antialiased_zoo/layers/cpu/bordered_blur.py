"""A blur as one zero-padded convolution, and what other padding adds to a few rows at the borders: no padded copy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..chunks import at_once, parts
from ..filters import CONVOLUTIONS, TRANSPOSED, Blur, depthwise
from ..padding import padded_indices

# In NCHW torch rearranges what it convolves. In bytes: above this always into fresh memory, so that parts are quicker.
_REARRANGED = 32 << 20
_PART = 13 << 20


@dataclass(frozen=True)
class ConvolvedAxis:
    """One axis of a blur.

    Attributes:
        taps: With zeros around them such that the same padding on both sides yields every output.
        stride: Stride of the outputs.
        padding: Zeros on both sides.
        spare: Inputs at the end that no output reads.
        terms: What padding other than zeros adds: ``(output, input) -> weight``.
    """

    taps: tuple[float, ...] = (1.0,)
    stride: int = 1
    padding: int = 0
    spare: int = 0
    terms: tuple[tuple[tuple[int, int], float], ...] = ()

    @classmethod
    def of(cls, n: int, taps: tuple[float, ...], stride: int, pad: tuple[int, int], mode: str) -> ConvolvedAxis:
        """The axis of ``n`` values, padded by ``pad`` before and after."""
        out = (n + sum(pad) - len(taps)) // stride + 1
        terms: dict[tuple[int, int], float] = {}
        copied = padded_indices(n, pad, mode).tolist()
        at_start = min(out, -(-pad[0] // stride))
        at_end = max(at_start, (pad[0] + n - len(taps)) // stride + 1)
        touching = itertools.chain(range(at_start), range(at_end, out))
        for i, (tap, weight) in itertools.product(touching, enumerate(taps)):
            place = i * stride + tap
            if not pad[0] <= place < pad[0] + n and copied[place] != n:
                terms[i, copied[place]] = terms.get((i, copied[place]), 0.0) + weight
        padding = pad[0]
        while (n + 2 * padding - len(taps)) // stride + 1 < out:
            taps, padding = (0.0, *taps), padding + 1
        while (n + 2 * padding - len(taps)) // stride + 1 > out:
            taps = (*taps, 0.0)
        spare = n + 2 * padding - len(taps) - (out - 1) * stride
        return cls(taps, stride, padding, spare, tuple(terms.items()))


class Border:
    """What padding other than zeros adds along one axis, as a small blur of the rows that it copies.

    Args:
        axis: The axis of the map.
        terms: Of a `ConvolvedAxis`.
        across: The blur along the other axes, or None if they have none.
    """

    def __init__(self, axis: int, terms: Sequence[tuple[tuple[int, int], float]], across: BorderedBlur | None):
        self.axis = axis
        self.across = across
        self.rows = sorted({row for (_, row), _ in terms})
        self.terms = [(out, self.rows.index(row), weight) for (out, row), weight in terms]

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add to the blur ``y`` of ``x``."""
        rows = torch.cat([x.narrow(self.axis, row, 1) for row in self.rows], self.axis)
        if self.across is not None:
            rows = self.across.forward(rows)
        for out, place, weight in self.terms:
            y.narrow(self.axis, out, 1).add_(rows.narrow(self.axis, place, 1), alpha=weight)

    def add_transposed(self, grad: Tensor, out: Tensor) -> None:
        """Add to the gradient ``out`` of a blur's input, given its result's."""
        shape = list(grad.shape)
        shape[self.axis] = len(self.rows)
        rows = grad.new_zeros(shape)
        for i, place, weight in self.terms:
            rows.narrow(self.axis, place, 1).add_(grad.narrow(self.axis, i, 1), alpha=weight)
        if self.across is not None:
            rows = self.across.transpose(rows)
        for place, row in enumerate(self.rows):
            out.narrow(self.axis, row, 1).add_(rows.narrow(self.axis, place, 1))


class BorderedBlur:
    """A blur of maps ``(N, C, *spatial)`` of one size.

    With Z an axis under zero padding and B what its border adds, two axes are (Z + B)(Z + B) = ZZ + B(Z + B) + ZB: one
    convolution of the map, and one of some rows for each axis.

    Args:
        axes: The spatial axes.
        channels: Channels of the maps.
        dtype: Of the maps.
        memory_format: Of maps and results.
        bordered: The first axis whose border counts; before it, zeros are around.
    """

    def __init__(
        self,
        axes: Sequence[ConvolvedAxis],
        channels: int,
        dtype: torch.dtype,
        memory_format: torch.memory_format,
        bordered: int = 0,
    ) -> None:
        self.channels = channels
        self.memory_format = memory_format
        self.stride = [axis.stride for axis in axes]
        self.padding = [axis.padding for axis in axes]
        self.spare = [axis.spare for axis in axes]
        self.weight = depthwise([axis.taps for axis in axes], channels, dtype)
        self.borders = []
        for i, axis in enumerate(axes):
            if i >= bordered and axis.terms:
                others = [*axes[:i], ConvolvedAxis(), *axes[i + 1 :]]
                blurs = any(other != ConvolvedAxis() for other in others)
                across = BorderedBlur(others, channels, dtype, memory_format, i + 1) if blurs else None
                self.borders.append(Border(i + 2, axis.terms, across))

    def forward(self, x: Tensor) -> Tensor:
        """The blur."""
        convolve = CONVOLUTIONS[len(self.stride) - 1]
        out = self._in_parts(
            x, lambda p: convolve(p, self.weight, None, self.stride, self.padding, 1, self.channels), 1
        )
        for border in self.borders:
            border.add(x, out)
        return out

    def transpose(self, grad: Tensor) -> Tensor:
        """The gradient of the blur's input, given its result's."""
        transpose = TRANSPOSED[len(self.stride) - 1]
        grad = grad.contiguous(memory_format=self.memory_format)
        out = self._in_parts(
            grad,
            lambda p: transpose(p, self.weight, None, self.stride, self.padding, self.spare, self.channels),
            growth=math.prod(self.stride),
        )
        for border in self.borders:
            border.add_transposed(grad, out)
        return out

    def _in_parts(self, x: Tensor, apply: Callable[[Tensor], Tensor], growth: int) -> Tensor:
        """Channels-last needs no parts; ``growth`` is how many times larger the result is."""
        size = x.numel() * x.element_size() * growth
        if self.memory_format != torch.contiguous_format or size <= _REARRANGED:
            return apply(x)
        images = at_once(x, _PART // growth)
        first = apply(x[:images])
        out = first.new_empty((len(x), *first.shape[1:]))
        out[:images] = first
        for part in itertools.islice(parts(x, images), 1, None):
            out[part] = apply(x[part])
        return out


@lru_cache(maxsize=256)
def bordered_blur(
    blur: Blur, size: tuple[int, ...], channels: int, dtype: torch.dtype, memory_format: torch.memory_format
) -> BorderedBlur:
    """The convolution for a blur of maps of one spatial size."""
    with torch.inference_mode(False), torch.no_grad():  # an inference tensor could not be used in training later
        axes = zip(size, blur.taps, blur.stride, blur.padding, strict=True)
        convolved = [ConvolvedAxis.of(n, taps, stride, pad, blur.mode) for n, taps, stride, pad in axes]
        return BorderedBlur(convolved, channels, dtype, memory_format)
