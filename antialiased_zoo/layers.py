"""The antialiasing layers: modules over the functions of `functional`. Nothing here knows about models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from .filters import Blur, binomial_taps
from .pooling import Window, avg_blur_pool, max_blur_pool
from .resample import blur_pool


class Blurred(nn.Module):
    """Holds a checked blur and its kernel, which follows the module's dtype and device but stays out of state dicts."""

    kernel: Tensor
    ndim = 2

    def __init__(self, blur: Blur) -> None:
        super().__init__()
        self.blur = blur
        self.register_buffer("kernel", blur.kernel(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        # to_empty() and FSDP's materialisation hand back uninitialised memory, and no checkpoint holds the kernel.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # as torch has it
        self.kernel = self.blur.kernel().to(self.kernel)
        return self


class Downsample(Blurred):
    """Blurs each channel with a binomial kernel and subsamples; `BlurPool` is another name for it.

    Args:
        channels: Channels of the input, checked at each call; None takes any number.
        pad_type: "reflect" ("refl"), "replicate" ("repl") or "zero".
        filt_size: Length of the binomial taps, 1 to 7: 2, 3, 4, 5 are Rect-2, Tri-3, Tri-4, Bin-5; 1 subsamples only.
        stride: Subsampling factor. A pair gives one for each axis, and an axis with stride 1 is then not blurred.
        pad_off: Pixels of padding on each side beyond what keeps the size.

    Shape:
        ``(N, C, H, W)`` or ``(C, H, W)`` to ``(N, C, ceil(H / stride), ceil(W / stride))``. Dtype, device and memory
        format are the input's.

    Raises:
        ValueError: If an argument is out of range, or the input has another number of channels.

    Source: Zhang, ICML 2019, section 3.2.

    Example:
        >>> import torch
        >>> Downsample(64, filt_size=4, stride=2)(torch.ones(1, 64, 14, 14)).shape
        torch.Size([1, 64, 7, 7])
    """

    def __init__(
        self,
        channels: int | None = None,
        pad_type: str = "reflect",
        filt_size: int = 4,
        stride: int | Sequence[int] = 2,
        pad_off: int = 0,
    ) -> None:
        if channels is not None and (not isinstance(channels, int) or channels < 1):
            raise ValueError(f"channels must be a positive integer, or None for any number, got {channels!r}")
        super().__init__(Blur.make(binomial_taps(filt_size), stride, pad_type, pad_off, self.ndim))
        self.channels = channels
        self.pad_type = pad_type
        self.filt_size = filt_size
        self.stride = stride
        self.pad_off = pad_off

    def forward(self, x: Tensor) -> Tensor:
        """Blur and subsample ``x``."""
        if self.channels is not None and x.shape[-1 - self.ndim] != self.channels:
            raise ValueError(f"expected {self.channels} channels, got a map of shape {tuple(x.shape)}")
        return blur_pool(x, self.blur, self.kernel)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        pad_off = f", pad_off={self.pad_off}" if self.pad_off else ""
        return f"{self.channels}, filt_size={self.filt_size}, stride={self.stride}, {self.pad_type}{pad_off}"


BlurPool = Downsample


class Downsample1d(Downsample):
    """`Downsample` for ``(N, C, L)`` or ``(C, L)``: audio and other sequences.

    Example:
        >>> import torch
        >>> Downsample1d(8)(torch.ones(1, 8, 9)).shape
        torch.Size([1, 8, 5])
    """

    ndim = 1


class Downsample3d(Downsample):
    """`Downsample` for ``(N, C, D, H, W)`` or ``(C, D, H, W)``: volumes and video.

    Example:
        >>> import torch
        >>> Downsample3d(8, stride=(1, 2, 2))(torch.ones(1, 8, 5, 6, 7)).shape
        torch.Size([1, 8, 5, 3, 4])
    """

    ndim = 3


class _Pooled(Blurred):
    """A pool's window with the blur that takes over its stride."""

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        filt_size: int = 4,
        stride: int | Sequence[int] = 2,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        ceil_mode: bool = False,
        pad_type: str = "reflect",
    ) -> None:
        super().__init__(Blur.make(binomial_taps(filt_size), stride, pad_type, 0, self.ndim))
        self.window = Window.make(kernel_size, padding, dilation, ceil_mode, self.ndim)
        self.filt_size = filt_size

    def extra_repr(self) -> str:
        """What the layer was made with."""
        window = self.window
        return (
            f"kernel_size={window.size}, filt_size={self.filt_size}, stride={self.blur.stride}, "
            f"padding={window.padding}, dilation={window.dilation}, ceil_mode={window.ceil_mode}"
        )


class MaxBlurPool2d(_Pooled):
    """Max pooling evaluated densely, then blurred and subsampled, to the size that ``nn.MaxPool2d`` would give.

    Args:
        kernel_size: Window of the maximum, an int or a pair.
        filt_size: Length of the binomial taps, 1 to 7.
        stride: Subsampling factor, an int or a pair.
        padding: As in ``nn.MaxPool2d``.
        dilation: As in ``nn.MaxPool2d``.
        ceil_mode: As in ``nn.MaxPool2d``.
        pad_type: Padding of the blur: "reflect", "replicate" or "zero".

    Shape:
        ``(N, C, H, W)`` or ``(C, H, W)`` to what ``nn.MaxPool2d`` gives with the same arguments.

    Raises:
        ValueError: If an argument is out of range.

    Source: Zhang, ICML 2019, equation (3).

    Example:
        >>> import torch
        >>> MaxBlurPool2d(kernel_size=3, stride=2, padding=1)(torch.ones(1, 8, 9, 9)).shape
        torch.Size([1, 8, 5, 5])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Pool, blur and subsample ``x``."""
        return max_blur_pool(x, self.window, self.blur, self.kernel)


class MaxBlurPool1d(MaxBlurPool2d):
    """`MaxBlurPool2d` for ``(N, C, L)`` or ``(C, L)``."""

    ndim = 1


class MaxBlurPool3d(MaxBlurPool2d):
    """`MaxBlurPool2d` for ``(N, C, D, H, W)`` or ``(C, D, H, W)``."""

    ndim = 3


class AvgBlurPool2d(_Pooled):
    """The blur in place of an average pool, on the same centres and to the size that ``nn.AvgPool2d`` would give.

    Args:
        kernel_size: Window of the average that it replaces, an int or a pair: says where the centres are.
        filt_size: Length of the binomial taps, 1 to 7.
        stride: Subsampling factor, an int or a pair.
        padding: As in ``nn.AvgPool2d``.
        dilation: 1; average pools have none.
        ceil_mode: As in ``nn.AvgPool2d``.
        pad_type: Padding of the blur: "reflect", "replicate" or "zero".

    Shape:
        ``(N, C, H, W)`` or ``(C, H, W)`` to what ``nn.AvgPool2d`` gives with the same arguments.

    Raises:
        ValueError: If an argument is out of range.

    Source: Zhang, ICML 2019, section 3.2: average pooling becomes blurred downsampling.

    Example:
        >>> import torch
        >>> AvgBlurPool2d(kernel_size=2)(torch.ones(1, 8, 9, 9)).shape
        torch.Size([1, 8, 4, 4])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Blur and subsample ``x``."""
        return avg_blur_pool(x, self.window, self.blur, self.kernel)


class AvgBlurPool1d(AvgBlurPool2d):
    """`AvgBlurPool2d` for ``(N, C, L)`` or ``(C, L)``."""

    ndim = 1


class AvgBlurPool3d(AvgBlurPool2d):
    """`AvgBlurPool2d` for ``(N, C, D, H, W)`` or ``(C, D, H, W)``."""

    ndim = 3
