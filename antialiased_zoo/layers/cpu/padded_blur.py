"""A blur that reads a padded buffer: the caller writes the map into its interior, the borders are filled in place."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..filters import Blur
from ..padding import padded_indices
from ..torch_functions import torch_function


class PaddedBlur:
    """The blur of maps ``(N, C, *spatial)`` of one size, which the caller writes into the interior of a buffer.

    Args:
        blur: The blur.
        size: Spatial size of the maps.
        channels: Channels of the maps.
        dtype: Dtype of the maps.
        memory_format: Memory format of buffers and results.
    """

    def __init__(
        self, blur: Blur, size: tuple[int, ...], channels: int, dtype: torch.dtype, memory_format: torch.memory_format
    ) -> None:
        self.blur = blur
        self.size = size
        self.channels = channels
        self.dtype = dtype
        self.memory_format = memory_format
        self.out = blur.out_size(size)
        self.weight = blur.kernel(dtype, channels)
        self._buffer_size = [n + sum(pad) for n, pad in zip(size, blur.padding, strict=True)]
        read = [(o - 1) * s + len(t) for o, s, t in zip(self.out, blur.stride, blur.taps, strict=True)]
        self._spare = [n - r for n, r in zip(self._buffer_size, read, strict=True)]
        self._copies = [  # (axis, padded position, the position it copies)
            (axis, place, pad[0] + source)
            for axis, (n, pad) in enumerate(zip(size, blur.padding, strict=True), start=2)
            for place, source in enumerate(padded_indices(n, pad, blur.mode).tolist())
            if not pad[0] <= place < pad[0] + n and source != n
        ]

    def buffer(self, images: int) -> Tensor:
        """Memory for the padded maps of some images."""
        shape = (images, self.channels, *self._buffer_size)
        buffer = torch.empty(shape, dtype=self.dtype, memory_format=self.memory_format)
        return buffer if self._copies else buffer.zero_()

    def inside(self, buffer: Tensor) -> Tensor:
        """The interior of a buffer, which holds the maps."""
        for axis, (n, pad) in enumerate(zip(self.size, self.blur.padding, strict=True), start=2):
            buffer = buffer.narrow(axis, pad[0], n)
        return buffer

    def apply(self, buffer: Tensor) -> Tensor:
        """Pad the maps in a buffer and blur them."""
        for axis, place, source in self._copies:
            buffer.narrow(axis, place, 1).copy_(buffer.narrow(axis, source, 1))
        return self._convolved(buffer)

    def transpose(self, grad: Tensor) -> Tensor:
        """The gradient of the maps, given the gradient of the blurred maps: the interior of a new buffer."""
        transpose = torch_function("conv_transpose{}d", len(self.size))
        grad = grad.contiguous(memory_format=self.memory_format)
        buffer = transpose(grad, self.weight, None, self.blur.stride, 0, self._spare, self.channels)
        for axis, place, source in reversed(self._copies):
            buffer.narrow(axis, source, 1).add_(buffer.narrow(axis, place, 1))
        return self.inside(buffer)

    def _convolved(self, buffer: Tensor) -> Tensor:
        convolve = torch_function("conv{}d", len(self.size))
        return convolve(buffer, self.weight, None, self.blur.stride, 0, 1, self.channels)


@lru_cache(maxsize=256)
def padded_blur(
    blur: Blur, size: tuple[int, ...], channels: int, dtype: torch.dtype, memory_format: torch.memory_format
) -> PaddedBlur:
    """The cached `PaddedBlur` for maps of one size."""
    with torch.inference_mode(False), torch.no_grad():  # an inference tensor could not be used in training later
        return PaddedBlur(blur, size, channels, dtype, memory_format)
