"""The blur kernels: 1-D taps, and the padding and strides that go with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from .torch_internals import is_jit_tracing

#: Filter sizes of the paper's binomial family: 1 subsamples only; 2, 3, 4 and 5 are Rect-2, Tri-3, Tri-4 and Bin-5.
FILTER_SIZES = tuple(range(1, 8))

PAD_TYPES = {
    "reflect": "reflect",
    "refl": "reflect",
    "replicate": "replicate",
    "repl": "replicate",
    "zero": "constant",
}


#: The length of the binomial taps, or custom taps: any 1-D sequence (a list, a NumPy array, a tensor).
FilterSize: TypeAlias = int | Sequence[float]


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
    return wide_taps(filt_size, 2)


def wide_taps(filt_size: int, stride: int) -> tuple[float, ...]:
    """Taps for a stride above 2: ``filt_size - 1`` boxes of ``stride`` pixels, convolved with each other.

    Binomial taps are boxes of 2 pixels, made for a stride of 2. Boxes of ``stride`` pixels put the filter's zeros on
    every frequency that the stride aliases onto a constant. For a stride of 4 they equal two successive binomial blurs
    of stride 2.

    Args:
        filt_size: 1 to 7, as in `binomial_taps`: 2 is the box, 3 the triangle (linear interpolation).
        stride: Width of a box, 1 or more; 2 gives `binomial_taps`, 1 gives a single tap.

    Returns:
        ``(filt_size - 1) * (stride - 1) + 1`` floats that sum to one.

    Raises:
        ValueError: If an argument is out of range.

    Source: Hogenauer, "An economical class of digital filters for decimation and interpolation", 1981 (CIC filters).

    Example:
        >>> wide_taps(3, 4)
        (0.0625, 0.125, 0.1875, 0.25, 0.1875, 0.125, 0.0625)
    """
    if type(filt_size) is not int or filt_size not in FILTER_SIZES:
        raise ValueError(f"filter size {filt_size!r} is not supported: {_ALLOWED}")
    if type(stride) is not int or stride < 1:
        raise ValueError(f"stride must be a positive integer, got {stride!r}")
    counts = [1]
    for _ in range(filt_size - 1):
        counts = [sum(counts[max(0, i - stride + 1) : i + 1]) for i in range(len(counts) + stride - 1)]
    return tuple(count / stride ** (filt_size - 1) for count in counts)


_ALLOWED = f"choose one of {FILTER_SIZES}, or give taps of your own, such as (1, 2, 1)"


def read_filter_size(filt_size: FilterSize) -> int | tuple[float, ...]:
    """Return a filter size unchanged, or custom taps as floats normalised to sum to one.

    Raises:
        ValueError: If it is neither 1 to 7 nor a 1-D sequence of finite numbers whose sum is not zero.
    """
    given: Any = filt_size.tolist() if hasattr(filt_size, "tolist") else filt_size  # NumPy's and torch's arrays
    if isinstance(given, str) or not isinstance(given, Sequence):
        return len(binomial_taps(cast(int, given)))
    numbers = [float(tap) for tap in given if isinstance(tap, (int, float)) and math.isfinite(tap)]
    total = sum(numbers)
    if len(numbers) < max(len(given), 1) or abs(total) <= 1e-6 * sum(map(abs, numbers)):
        raise ValueError(f"taps must be finite numbers, one or more, whose sum is not zero, got {filt_size!r}")
    return tuple(tap / total for tap in numbers)


def taps_of(filt_size: FilterSize) -> tuple[float, ...]:
    """The binomial taps of a filter size, or custom taps normalised to sum to one."""
    size = read_filter_size(filt_size)
    return binomial_taps(size) if isinstance(size, int) else size


def alias_energy(filt_size: FilterSize, stride: int) -> float:
    """Share of a filter's energy above the new Nyquist frequency, which aliases when subsampling by ``stride``.

    The integral of H(f) squared over 1 / (2 stride) < f < 1/2, divided by that from 0 to 1/2. For a white noise input
    it is the share of aliased energy in the output. Zero is best; without a filter it is ``1 - 1 / stride``.

    Args:
        filt_size: A filter size, or taps such as `wide_taps` gives.
        stride: The subsampling factor.

    Returns:
        A number from 0 to 1.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> round(alias_energy(4, 4), 3), round(alias_energy(wide_taps(4, 4), 4), 3)
        (0.309, 0.02)
    """
    taps = taps_of(filt_size)
    if type(stride) is not int or stride < 1:
        raise ValueError(f"stride must be a positive integer, got {stride!r}")
    lags = [sum(a * b for a, b in zip(taps, taps[lag:], strict=False)) for lag in range(len(taps))]
    kept = lags[0] / stride
    kept += sum(2 * r * math.sin(math.pi * lag / stride) / (math.pi * lag) for lag, r in enumerate(lags) if lag)
    return max(0.0, 1 - kept / lags[0])


def depthwise(taps: Sequence[Sequence[float]], channels: int, dtype: torch.dtype) -> Tensor:
    """The outer product of each axis's taps as a ``(channels, 1, *k)`` convolution weight, rounded once."""
    weight = torch.ones((), dtype=torch.float64, device="cpu")
    for axis in taps:
        weight = weight.unsqueeze(-1) * torch.tensor(axis, dtype=torch.float64, device="cpu")
    return weight.to(dtype).expand(channels, 1, *weight.shape).contiguous()


@dataclass(frozen=True)
class Blur:
    """The checked arguments of a separable blur and subsampling.

    Attributes:
        taps: 1-D taps for each spatial axis; ``(1.0,)`` leaves an axis unblurred.
        stride: Stride of each spatial axis.
        padding: ``(before, after)`` of each spatial axis, in pixels.
        mode: The padding mode of ``torch.nn.functional.pad``: "reflect", "replicate" or "constant" (zeros).
        flat_padding: The padding in the order of ``torch.nn.functional.pad``.
        reach: The largest padding on any side.
        is_subsampling: True if no axis is blurred or padded.
    """

    taps: tuple[tuple[float, ...], ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    mode: str
    # Fields rather than cached properties, which torch's compiler cannot trace.
    flat_padding: list[int] = field(init=False, repr=False, compare=False)
    reach: int = field(init=False, repr=False, compare=False)
    is_subsampling: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        reach = max([max(pad) for pad in self.padding])  # torch 2.6 compiles no max(map(...))
        object.__setattr__(self, "flat_padding", [p for pad in reversed(self.padding) for p in pad])
        object.__setattr__(self, "reach", reach)
        object.__setattr__(self, "is_subsampling", not reach and all(len(taps) == 1 for taps in self.taps))

    @classmethod
    def make(
        cls,
        filt_size: FilterSize,
        stride: int | Sequence[int],
        pad_type: str,
        pad_off: int,
        ndim: int,
        wide: bool = False,
        dense: bool = False,
    ) -> Blur:
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
        axes = [
            _axis(filt_size, s, wide, pad_off) if b else ((1.0,), (0, 0)) for s, b in zip(strides, blurred, strict=True)
        ]
        steps = (1,) * ndim if dense else strides
        return cls(tuple(taps for taps, _ in axes), steps, tuple(around for _, around in axes), PAD_TYPES[pad_type])

    def with_padding(self, padding: tuple[tuple[int, int], ...]) -> Blur:
        """The same blur with another padding."""
        return Blur(self.taps, self.stride, padding, self.mode)

    def out_size(self, size: Sequence[int]) -> list[int]:
        """Spatial size of the result for an input of the given spatial size."""
        axes = zip(size, self.taps, self.stride, self.padding, strict=True)
        return [(n + sum(pad) - len(t)) // s + 1 for n, t, s, pad in axes]

    def kernel(self, dtype: torch.dtype = torch.float32, channels: int = 1) -> Tensor:
        """The outer product of the taps as a ``(channels, 1, *k)`` convolution weight, rounded once."""
        return depthwise(self.taps, channels, dtype)

    def weight(self, x: Tensor, kernel: Tensor | None = None) -> Tensor:
        """The depthwise weight for ``x``, made from ``kernel`` if its precision is sufficient."""
        channels, dtype, device = x.shape[1], x.dtype, x.device
        if is_jit_tracing():  # ONNX refuses a weight whose shape depends on a traced size
            channels = int(channels)
        if kernel is not None and kernel.is_meta and not x.is_meta:  # load_state_dict(assign=True) leaves it there
            kernel = None
        if kernel is None or (kernel.dtype != dtype and torch.promote_types(kernel.dtype, dtype) != kernel.dtype):
            kernel = self.kernel(dtype)
        if kernel.dtype != dtype or kernel.device != device:
            kernel = kernel.to(x)
        if kernel.shape[0] == channels:
            return kernel
        kernel = kernel if kernel.shape[0] == 1 else kernel[:1]  # one kernel for all channels
        return kernel.expand(channels, 1, *kernel.shape[2:])


def _axis(filt_size: FilterSize, stride: int, wide: bool, pad_off: int) -> tuple[tuple[float, ...], tuple[int, int]]:
    """The taps for an axis, and the padding around it."""
    given = read_filter_size(filt_size)
    if not isinstance(given, int):
        if wide:
            raise ValueError("wide=True widens binomial taps: give it with a filter size, not with taps of your own")
        before, after = (len(given) - 1) // 2, len(given) // 2
        while before and not given[0]:  # zeros at the ends only set the centre: the padding does so too, and is faster
            given, before = given[1:], before - 1
        while after and not given[-1]:
            given, after = given[:-1], after - 1
        return given, (before + pad_off, after + pad_off)
    box = max(stride, 2) if wide else 2
    # Each pair of boxes is centred on the sampled pixel; a single box left over starts at it.
    taps, before = wide_taps(given, box), (given - 1) // 2 * (box - 1)
    return taps, (before + pad_off, len(taps) - 1 - before + pad_off)
