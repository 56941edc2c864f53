"""A convolution that pads as TensorFlow's "SAME"."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SamePadConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding: it gives ``ceil(size / stride)`` places along each axis.

    Where the padding is odd, the pixel more is at the right and the bottom; so it depends on the
    stride and the size.

    Example:
        >>> import torch
        >>> SamePadConv2d(3, 8, 3, stride=2)(torch.randn(1, 3, 9, 8)).shape
        torch.Size([1, 8, 5, 4])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Pad as the stride and the size want it, then convolve."""
        (top, bottom), (left, right) = (self._around(axis, input.shape[axis - 2]) for axis in (0, 1))
        if max(self.stride) == 1 and (top, left) == (bottom, right):  # the convolution pads, which takes no copy
            return F.conv2d(input, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        return super().forward(F.pad(input, (left, right, top, bottom)))

    def _around(self, axis: int, size: int) -> tuple[int, int]:
        reach, stride = self.dilation[axis] * (self.kernel_size[axis] - 1), self.stride[axis]
        # Nothing is decided by the size, so that compiled code is one graph for all sizes.
        total = reach if stride == 1 else cast(int, torch.sym_max(0, (size - 1) // stride * stride + 1 + reach - size))
        return total // 2, total - total // 2
