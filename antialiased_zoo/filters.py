"""The blur kernels: 1-D taps, and the padding and strides that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb

import torch
from torch import Tensor

#: Filter sizes of the paper's binomial family: 1 subsamples only; 2, 3, 4 and 5 are Rect-2, Tri-3, Tri-4 and Bin-5.
FILTER_SIZES = tuple(range(1, 8))

PAD_TYPES = {
    "reflect": "reflect",
    "refl": "reflect",
    "replicate": "replicate",
    "repl": "replicate",
    "zero": "constant",
}


def binomial_taps(filt_size: int) -> tuple[float, ...]:
    """Binomial low-pass taps of the given length, normalised to sum to one.

    Args:
        filt_size: Number of taps, 1 to 7.

    Returns:
        ``filt_size`` floats, for example ``(0.125, 0.375, 0.375, 0.125)`` for 4.

    Raises:
        ValueError: If ``filt_size`` is not one of 1 to 7.

    Source: Zhang, ICML 2019, section 4 ("Anti-aliased max-pooling"): Rect-2, Tri-3, Bin-5.

    Example:
        >>> binomial_taps(3)
        (0.25, 0.5, 0.25)
    """
    if isinstance(filt_size, bool) or filt_size not in FILTER_SIZES:
        raise ValueError(f"filter size {filt_size!r} is not supported: choose one of {FILTER_SIZES}")
    return tuple(comb(filt_size - 1, i) / 2 ** (filt_size - 1) for i in range(filt_size))


@dataclass(frozen=True)
class Blur:
    """All that a separable blur-and-subsample needs to know, checked once.

    Attributes:
        taps: 1-D taps for each spatial axis; ``(1.0,)`` leaves an axis unblurred.
        stride: Stride of each spatial axis.
        padding: ``(before, after)`` of each spatial axis, in pixels.
        mode: ``torch.nn.functional.pad``'s name of the padding: "reflect", "replicate" or "constant" (zeros).
    """

    taps: tuple[tuple[float, ...], ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    mode: str

    @classmethod
    def make(cls, taps: Sequence[float], stride: int | Sequence[int], pad_type: str, pad_off: int, ndim: int) -> Blur:
        """Check a user's arguments. A sequence of strides leaves the axes with a stride of 1 unblurred.

        Raises:
            ValueError: If an argument is out of range; the message names what is allowed.
        """
        if pad_type not in PAD_TYPES:
            raise ValueError(f"pad type {pad_type!r} is not supported: choose one of {tuple(PAD_TYPES)}")
        if not isinstance(pad_off, int) or pad_off < 0:
            raise ValueError(f"pad_off must be an integer of 0 or more, got {pad_off!r}")
        strides = tuple(stride) if isinstance(stride, Sequence) else (stride,) * ndim
        if len(strides) != ndim or not all(isinstance(s, int) and s >= 1 for s in strides):
            raise ValueError(f"stride must be a positive integer or {ndim} of them, got {stride!r}")
        blurred = [s > 1 or not isinstance(stride, Sequence) for s in strides]
        k = len(taps)
        around = ((k - 1) // 2 + pad_off, k // 2 + pad_off)  # k // 2 is ceil((k - 1) / 2)
        return cls(
            tuple(tuple(taps) if b else (1.0,) for b in blurred),
            strides,
            tuple(around if b else (0, 0) for b in blurred),
            PAD_TYPES[pad_type],
        )

    @cached_property
    def is_subsampling(self) -> bool:
        """True if no axis is blurred or padded."""
        return all(len(t) == 1 for t in self.taps) and not any(map(any, self.padding))

    def out_size(self, size: Sequence[int]) -> list[int]:
        """Spatial size of the result for an input of the given spatial size."""
        axes = zip(size, self.taps, self.stride, self.padding, strict=True)
        return [(n + sum(pad) - len(t)) // s + 1 for n, t, s, pad in axes]

    def kernel(self) -> Tensor:
        """The outer product of the taps as a float32 ``(1, 1, *k)`` convolution weight (exact in half precision)."""
        weight = torch.ones((), device="cpu")
        for taps in self.taps:
            weight = weight.unsqueeze(-1) * torch.tensor(taps, device="cpu")
        return weight[None, None]
