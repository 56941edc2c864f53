"""The layers as TorchScript can compile them: `torch.jit.script` takes these in place of the layers themselves."""

# No `from __future__ import annotations`: torch.jit.script reads the annotations.
from typing import List, Union  # noqa: UP035  # as TorchScript knows them

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .filters import Blur
from .window import Window


class ScriptableBlur(nn.Module):
    """A dense maximum over a window, if there is one, then the blur: pad, and one depthwise convolution.

    Args:
        blur: What to blur with.
        kernel: Its kernel, ``(1 or C, 1, *k)``.
        window: Of a maximum before it, or None.
    """

    kernel: Tensor

    def __init__(self, blur: Blur, kernel: Tensor, window: Union[Window, None] = None) -> None:  # noqa: UP007
        super().__init__()
        self.register_buffer("kernel", kernel, persistent=False)
        self.ndim = len(blur.stride)
        self.mode = blur.mode
        self.stride: List[int] = list(blur.stride)  # noqa: UP006
        self.before: List[int] = [before for before, _ in blur.padding]  # noqa: UP006
        self.after: List[int] = [after for _, after in blur.padding]  # noqa: UP006
        self.pools = window is not None
        self.ceil_mode = window is not None and window.ceil_mode
        window = window or Window((1,) * self.ndim, (0,) * self.ndim, (1,) * self.ndim)
        self.size: List[int] = list(window.size)  # noqa: UP006
        self.padding: List[int] = list(window.padding)  # noqa: UP006
        self.dilation: List[int] = list(window.dilation)  # noqa: UP006

    def forward(self, x: Tensor) -> Tensor:
        """Resample ``(N, C, *spatial)`` or ``(C, *spatial)``."""
        single = x.dim() == self.ndim + 1
        if single:
            x = x.unsqueeze(0)
        if self.pools:
            x = self._maximum(x)
        for axis in range(self.ndim):
            index = self._copied(x.size(axis + 2), self.before[axis], self.after[axis], x.device)
            if self.mode != "constant":
                x = x.index_select(axis + 2, index)
        if self.mode == "constant":
            x = F.pad(x, self._flat(self.before, self.after))
        kernel = self.kernel.to(x.dtype)
        channels = x.size(1)
        if kernel.size(0) != channels:
            kernel = kernel[:1].repeat_interleave(channels, 0)
        if self.ndim == 1:
            x = F.conv1d(x, kernel, None, self.stride, groups=channels)
        elif self.ndim == 2:
            x = F.conv2d(x, kernel, None, self.stride, groups=channels)
        else:
            x = F.conv3d(x, kernel, None, self.stride, groups=channels)
        return x.squeeze(0) if single else x

    def _copied(self, n: int, before: int, after: int, device: torch.device) -> Tensor:
        """For each position of the padded axis the position that it copies."""
        i = torch.arange(-before, n + after, device=device)
        if self.mode == "replicate" or n == 1:
            return i.clamp(0, n - 1)
        i = i.remainder(2 * (n - 1))
        return torch.minimum(i, 2 * (n - 1) - i)

    def _flat(self, before: List[int], after: List[int]) -> List[int]:  # noqa: UP006
        flat: List[int] = []  # noqa: UP006
        for axis in range(self.ndim):
            flat += [before[self.ndim - 1 - axis], after[self.ndim - 1 - axis]]
        return flat

    def _maximum(self, x: Tensor) -> Tensor:
        size, padding, dilation = self.size, self.padding, self.dilation
        if self.ceil_mode:
            more = [self._reach(x.size(axis + 2), axis) for axis in range(self.ndim)]
            x = F.pad(x, self._flat([0 for _ in more], more), "constant", float("-inf"))
        if self.ndim == 1:
            return F.max_pool1d(x, size, 1, padding, dilation)
        if self.ndim == 2:
            return F.max_pool2d(x, size, 1, padding, dilation)
        return F.max_pool3d(x, size, 1, padding, dilation)

    def _reach(self, n: int, axis: int) -> int:
        """How much further the dense map must go for the window that ``ceil_mode`` adds."""
        size, padding, dilation = self.size, self.padding, self.dilation
        stride = self.stride[axis]
        dense = n + 2 * padding[axis] - dilation[axis] * (size[axis] - 1)
        out = (dense - 1 + stride - 1) // stride + 1
        if (out - 1) * stride >= n + padding[axis]:
            out -= 1
        return max(0, (out - 1) * stride + 1 - dense)
