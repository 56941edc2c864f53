"""The layers' operations in TorchScript's subset of Python, without dispatch or dataclasses; the values are equal."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .padding import padded_indices


def blurred(x: Tensor, kernel: Tensor, stride: list[int], mode: str, before: list[int], after: list[int]) -> Tensor:
    """Pad ``(N, C, *spatial)``, then one strided depthwise convolution; negative padding crops."""
    x = padded(x, mode, before, after)
    channels, kernel = x.size(1), weight(x, kernel)
    if len(stride) == 1:
        return F.conv1d(x, kernel, None, stride, groups=channels)
    if len(stride) == 2:
        return F.conv2d(x, kernel, None, stride, groups=channels)
    return F.conv3d(x, kernel, None, stride, groups=channels)


def upsampled(
    x: Tensor,
    kernel: Tensor,
    stride: list[int],
    mode: str,
    before: list[int],
    after: list[int],
    crop: list[int],
    extra: list[int],
) -> Tensor:
    """Pad, then one transposed depthwise convolution."""
    x = padded(x, mode, before, after)
    channels, kernel = x.size(1), weight(x, kernel)
    if len(stride) == 1:
        return F.conv_transpose1d(x, kernel, None, stride, crop, extra, channels)
    if len(stride) == 2:
        return F.conv_transpose2d(x, kernel, None, stride, crop, extra, channels)
    return F.conv_transpose3d(x, kernel, None, stride, crop, extra, channels)


def dense_maximum(
    x: Tensor, size: list[int], padding: list[int], dilation: list[int], ceil_mode: bool, stride: list[int]
) -> Tensor:
    """Max pooling at stride 1, extended as a pool with ``stride`` and ``ceil_mode`` needs."""
    if ceil_mode:
        sizes = list(x.size())[2:]
        out = pooled(sizes, size, padding, dilation, True, stride)
        dense = pooled(sizes, size, padding, dilation, False, [1 for _ in stride])
        missing = [max(0, (out[axis] - 1) * stride[axis] + 1 - dense[axis]) for axis in range(len(out))]
        x = F.pad(x, flat([0 for _ in missing], missing), "constant", float("-inf"))
    if len(size) == 1:
        return F.max_pool1d(x, size, 1, padding, dilation)
    if len(size) == 2:
        return F.max_pool2d(x, size, 1, padding, dilation)
    return F.max_pool3d(x, size, 1, padding, dilation)


def pooled(
    sizes: list[int], size: list[int], padding: list[int], dilation: list[int], ceil_mode: bool, stride: list[int]
) -> list[int]:
    """The output size of torch's pool for a map with the given spatial sizes."""
    out: list[int] = []
    for axis in range(len(size)):
        span = dilation[axis] * (size[axis] - 1) + 1
        last = sizes[axis] + 2 * padding[axis] - span
        if ceil_mode:  # see Window.last_start
            last = sizes[axis] + padding[axis] - 1 + min(0, padding[axis] - span + stride[axis])
        out.append(last // stride[axis] + 1)
    return out


def padded(x: Tensor, mode: str, before: list[int], after: list[int]) -> Tensor:
    """``x`` with its padding, by indexing each axis with the positions that it copies."""
    if not x.is_floating_point():
        raise TypeError("expected a floating-point map: convert it first, for example x.float()")
    if mode == "constant":
        return F.pad(x, flat(before, after))
    for axis in range(len(before)):
        if before[axis] != 0 or after[axis] != 0:
            i = padded_indices(x.size(axis + 2), (before[axis], after[axis]), mode)
            x = x.index_select(axis + 2, i.to(x.device))
    return x


def weight(x: Tensor, kernel: Tensor) -> Tensor:
    """The kernel for each channel of ``x``."""
    kernel = kernel.to(x.dtype)
    return kernel if kernel.size(0) == x.size(1) else kernel[:1].repeat_interleave(x.size(1), 0)


def flat(before: list[int], after: list[int]) -> list[int]:
    """The padding in the order of `torch.nn.functional.pad`."""
    sides: list[int] = []
    for axis in range(len(before) - 1, -1, -1):
        sides += [before[axis], after[axis]]
    return sides
