"""A convolution with TensorFlow's "SAME" padding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .torch_internals import at_least


class SamePadConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding: the output size is ``ceil(size / stride)``.

    The padding depends on the stride and the size; if it is odd, the extra pixel is at the right and
    the bottom.

    Example:
        >>> import torch
        >>> SamePadConv2d(3, 8, 3, stride=2)(torch.randn(1, 3, 9, 8)).shape
        torch.Size([1, 8, 5, 4])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Pad as the stride and the size require, then convolve."""
        (top, bottom), (left, right) = self._around(0, input.shape[-2]), self._around(1, input.shape[-1])
        if self.stride == (1, 1) and top == bottom and left == right:  # the convolution pads without a copy
            return F.conv2d(input, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        padded = F.pad(input, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def _around(self, axis: int, size: int) -> tuple[int, int]:
        reach, stride = self.dilation[axis] * (self.kernel_size[axis] - 1), self.stride[axis]
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            total = max(0, (size - 1) // stride * stride + 1 + reach - size)
        elif stride == 1:
            total = reach
        else:  # no branch on the size, so that compiled code is one graph for all sizes
            total = (size - 1) // stride * stride + 1 + reach - size
            if reach < stride - 1:  # otherwise it is never negative, and a simpler size keeps compiling fast
                total = at_least(0, total)
        return total // 2, total - total // 2
