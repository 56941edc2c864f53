"""The window of a pool (kernel size, padding, dilation) and the output sizes of torch's pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .torch_internals import at_least


@dataclass(frozen=True)
class Window:
    """The window of a pool, one number for each spatial axis, as in torch's pools.

    Attributes:
        size: Length of the window.
        padding: Implicit padding on both sides.
        dilation: Distance between the window's elements.
        ceil_mode: True if the last window may reach past the end.
    """

    size: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False

    @classmethod
    def make(
        cls,
        size: int | Sequence[int],
        padding: int | Sequence[int],
        dilation: int | Sequence[int],
        ceil_mode: bool,
        ndim: int,
    ) -> Window:
        """Check a user's arguments.

        Raises:
            ValueError: If an argument is out of range; the message names it.
        """
        sizes, paddings, dilations = (_each(value, ndim) for value in (size, padding, dilation))
        for name, values, least in (("kernel_size", sizes, 1), ("padding", paddings, 0), ("dilation", dilations, 1)):
            if len(values) != ndim or not all(isinstance(value, int) and value >= least for value in values):
                raise ValueError(f"{name} must be an integer of {least} or more, or {ndim} of them, got {values}")
        if any(2 * p > n for p, n in zip(paddings, sizes, strict=True)):
            raise ValueError(f"padding must be at most half the kernel size, got {paddings} for {sizes}")
        return cls(sizes, paddings, dilations, ceil_mode)

    def dense_size(self, size: Sequence[int]) -> list[int]:
        """Spatial size of the pool at stride 1."""
        axes = zip(size, self.size, self.padding, self.dilation, strict=True)
        return [n + 2 * p - d * (k - 1) for n, k, p, d in axes]

    def last_start(self, size: int, stride: int, axis: int) -> int:
        """Largest distance from the first to the last window of torch's pool, not yet rounded to the stride."""
        padding = self.padding[axis]
        if not self.ceil_mode:
            return size + 2 * padding - self._span(axis)
        # The last window may reach past the end, but must start in the input. Which of the two
        # limits is smaller does not depend on the size, so compiled code has no branch.
        return size + padding - 1 + min(0, self._past_end(stride, axis))

    def _span(self, axis: int) -> int:
        return self.dilation[axis] * (self.size[axis] - 1) + 1

    def _past_end(self, stride: int, axis: int) -> int:
        """How far after the input's last position the last window of ``ceil_mode`` would start at most."""
        return self.padding[axis] - self._span(axis) + stride

    def missing(self, size: Sequence[int], stride: Sequence[int]) -> list[int]:
        """Positions to add at the end of the dense pool, along each axis, for the last window of ``ceil_mode``."""
        if not self.ceil_mode:
            return [0] * len(size)
        missing = []
        for axis, (n, dense, s) in enumerate(zip(size, self.dense_size(size), stride, strict=True)):
            more = self.last_start(n, s, axis) // s * s + 1 - dense
            if self._past_end(s, axis) > 0:  # otherwise it is never negative, and a simpler size keeps compiling fast
                more = at_least(0, more)
            missing.append(more)
        return missing


def _each(value: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,) * ndim
