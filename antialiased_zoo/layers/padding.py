"""Padding modes, defined by the position that each padded position copies."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .filters import Blur


def padded_indices(n: int, pad: tuple[int, int], mode: str) -> Tensor:
    """For each position of the padded axis, the position it copies; ``n`` stands for a constant.

    This is the only definition of the padding modes. TorchScript compiles it too.
    """
    i = torch.arange(-pad[0], n + pad[1], device="cpu")
    if mode == "constant":
        return torch.where((i < 0) | (i >= n), n, i)
    if mode == "replicate":
        return i.clamp(0, n - 1)
    if mode == "reflect":
        period = 2 * (n - 1) + 1 // n  # of one pixel, 1: without a branch, which a trace would keep for all sizes
        i = i % period
        return torch.minimum(i, period - i)
    raise ValueError(f"padded_indices() does not define the padding {mode}")


def padded(x: Tensor, blur: Blur) -> Tensor:
    """``x`` with the blur's padding; a map smaller than the padding is reflected repeatedly."""
    # F.pad refuses to reflect more than once. any() instead of min(), whose guard on which size is
    # smaller makes torch.compile recompile.
    if blur.mode == "reflect" and any(n <= blur.reach for n in x.shape[2:]):
        for axis, pad in enumerate(blur.padding, start=2):
            x = x.index_select(axis, padded_indices(x.shape[axis], pad, blur.mode).to(x.device))
        return x
    return F.pad(x, blur.flat_padding, mode=blur.mode) if blur.reach else x
