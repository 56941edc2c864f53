"""The antialiasing layers: modules over the functions of `functional`. Nothing here knows about models."""

# No `from __future__ import annotations`, and no class annotation but of a tensor: torch.jit.script reads them.
from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor, fx, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]  # public, and not listed

from . import scriptable
from .dispatch import blur_pool, max_blur_pool
from .filters import Blur, FilterSize, read_filter_size
from .pooling import avg_blur_pool
from .upsampling import Interpolation, blur_upsample
from .window import Window


class Blurred(nn.Module):
    """Base of the layers: a checked blur and its kernel, a buffer that is in no state dict."""

    kernel: Tensor
    ndim = 2

    def __init__(self, blur: Blur, channels: int | None = None) -> None:
        super().__init__()
        self.blur = blur
        self.register_buffer("kernel", blur.kernel(channels=channels or 1), persistent=False)
        # The blur's settings once more, in types that TorchScript reads.
        self._mode, self._stride = blur.mode, list(blur.stride)
        self._before, self._after = ([pad[side] for pad in blur.padding] for side in (0, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Resample ``x``."""
        if is_scripting():
            return self._script(x) if x.dim() > len(self._stride) + 1 else self._script(x.unsqueeze(0)).squeeze(0)
        else:  # TorchScript compiles one branch alone
            return self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        if isinstance(x, fx.Proxy):  # a leaf for every tracer, as torch's own layers are
            return cast(Tensor, x.tracer.create_proxy("call_module", x.tracer.path_of_module(self), (x,), {}))
        return self._resample(x)

    def _resample(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _script(self, x: Tensor) -> Tensor:
        """`_resample` of a batch, as TorchScript compiles it."""
        return scriptable.blurred(x, self.kernel, self._stride, self._mode, self._before, self._after)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        # to_empty() and FSDP's materialisation hand back uninitialised memory, and no checkpoint holds the kernel.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # as torch has it
        self.kernel = self.blur.kernel(self.kernel.dtype, len(self.kernel)).to(self.kernel.device)
        return self


class _Resampler(Blurred):
    """A blur between maps of one number of channels."""

    def __init__(self, channels: int | None, pad_type: str, filt_size: FilterSize, blur: Blur) -> None:
        if channels is not None and (not isinstance(channels, int) or channels < 1):
            raise ValueError(f"channels must be a positive integer, or None for any number, got {channels!r}")
        super().__init__(blur, channels)
        self.channels = channels
        self.pad_type = pad_type
        self.filt_size = read_filter_size(filt_size)

    def _check(self, x: Tensor) -> None:
        if self.channels is not None and x.shape[-1 - self.ndim] != self.channels:
            raise ValueError(f"expected {self.channels} channels, got a map of shape {tuple(x.shape)}")


def _show(filt_size: int | tuple[float, ...]) -> str:
    """A filter size, or taps with four digits."""
    if isinstance(filt_size, int):
        return str(filt_size)
    return f"({', '.join(f'{tap:.4g}' for tap in filt_size)})"


class Downsample(_Resampler):
    """Blurs each channel and subsamples; `BlurPool` is another name for it.

    Args:
        channels: Channels of the input, checked at each call; None takes any number.
        pad_type: "reflect" ("refl"), "replicate" ("repl") or "zero".
        filt_size: Length of the binomial taps, 1 to 7: 2, 3, 4, 5 are Rect-2, Tri-3, Tri-4, Bin-5; 1 subsamples only.
            Or taps of your own: a 1-D sequence, normalised to sum to one.
        stride: Subsampling factor. A pair gives one for each axis, and an axis with stride 1 is then not blurred.
        pad_off: Pixels of padding on each side beyond what keeps the size.
        wide: Widen binomial taps where the stride is above 2 (`antialiased_zoo.wide_taps`). The published
            weights do without.
        dense: Blur as for ``stride``, and keep every pixel: for a map that something else subsamples or has upsampled.

    Shape:
        ``(N, C, H, W)`` or ``(C, H, W)`` to ``(N, C, ceil(H / stride), ceil(W / stride))``; with ``dense`` the size
        stays. Dtype, device and memory format are the input's.

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
        filt_size: FilterSize = 4,
        stride: int | Sequence[int] = 2,
        pad_off: int = 0,
        wide: bool = False,
        dense: bool = False,
    ) -> None:
        blur = Blur.make(filt_size, stride, pad_type, pad_off, self.ndim, wide, dense)
        super().__init__(channels, pad_type, filt_size, blur)
        self.stride = stride
        self.pad_off = pad_off
        self.wide = wide
        self.dense = dense

    def _resample(self, x: Tensor) -> Tensor:
        self._check(x)
        return blur_pool(x, self.blur, self._buffers["kernel"])  # nn.Module takes longer to find it

    def extra_repr(self) -> str:
        """The layer's arguments, for `print(model)`."""
        more = f", pad_off={self.pad_off}" if self.pad_off else ""
        more += "".join(f", {name}=True" for name in ("wide", "dense") if getattr(self, name))
        return f"{self.channels}, filt_size={_show(self.filt_size)}, stride={self.stride}, {self.pad_type}{more}"


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


class BlurUpsample(_Resampler):
    """Puts zeros between the pixels and low-pass filters, with a gain that keeps constants: `Downsample` transposed.

    Args:
        channels: Channels of the input, checked at each call; None takes any number.
        pad_type: "replicate" ("repl"), "reflect" ("refl") or "zero" (a constant then falls off at the border).
        filt_size: 2 to 7: 2 is nearest, 3 and (at stride 2) 4 linear interpolation, 5 to 7 are smoother. Or taps of
            your own, a 1-D sequence of at least ``stride`` of them.
        stride: Upsampling factor. A pair gives one for each axis, and an axis with stride 1 is then not blurred.

    Shape:
        ``(N, C, H, W)`` or ``(C, H, W)`` to ``(N, C, H * stride, W * stride)``. Dtype, device and memory format are the
        input's.

    Raises:
        ValueError: If an argument is out of range, or the input has another number of channels.

    Source: See `antialiased_zoo.layers.functional.blur_upsample2d`.

    Example:
        >>> import torch
        >>> BlurUpsample(64)(torch.ones(1, 64, 7, 7)).shape
        torch.Size([1, 64, 14, 14])
    """

    def __init__(
        self,
        channels: int | None = None,
        pad_type: str = "replicate",
        filt_size: FilterSize = 4,
        stride: int | Sequence[int] = 2,
    ) -> None:
        blur = Interpolation.of(filt_size, stride, pad_type, self.ndim)
        super().__init__(channels, pad_type, filt_size, blur)
        self.stride = stride
        self._crop, self._extra = list(blur.crop), list(blur.extra)

    def _resample(self, x: Tensor) -> Tensor:
        self._check(x)
        return blur_upsample(x, cast(Interpolation, self.blur), self.kernel)

    def _script(self, x: Tensor) -> Tensor:
        return scriptable.upsampled(
            x, self.kernel, self._stride, self._mode, self._before, self._after, self._crop, self._extra
        )

    def extra_repr(self) -> str:
        """The layer's arguments, for `print(model)`."""
        return f"{self.channels}, filt_size={_show(self.filt_size)}, stride={self.stride}, {self.pad_type}"


class BlurUpsample1d(BlurUpsample):
    """`BlurUpsample` for ``(N, C, L)`` or ``(C, L)``."""

    ndim = 1


class BlurUpsample3d(BlurUpsample):
    """`BlurUpsample` for ``(N, C, D, H, W)`` or ``(C, D, H, W)``."""

    ndim = 3


class _Pooled(Blurred):
    """A pool's window with the blur that takes over its stride."""

    def __init__(
        self, window: Window, filt_size: FilterSize, stride: int | Sequence[int], pad_type: str, wide: bool
    ) -> None:
        super().__init__(Blur.make(filt_size, stride, pad_type, 0, self.ndim, wide))
        self.window = window
        self.filt_size = read_filter_size(filt_size)
        self.wide = wide
        self._size, self._padding, self._dilation = list(window.size), list(window.padding), list(window.dilation)
        self._ceil_mode = window.ceil_mode

    def extra_repr(self) -> str:
        """The layer's arguments, for `print(model)`."""
        window = self.window
        wide = ", wide=True" if self.wide else ""
        return (
            f"kernel_size={window.size}, filt_size={_show(self.filt_size)}, stride={self.blur.stride}, "
            f"padding={window.padding}, dilation={window.dilation}, ceil_mode={window.ceil_mode}{wide}"
        )


class MaxBlurPool2d(_Pooled):
    """Max pooling evaluated densely, then blurred and subsampled, to the size that ``nn.MaxPool2d`` would give.

    Args:
        kernel_size: Window of the maximum, an int or a pair.
        filt_size: Length of the binomial taps, 1 to 7, or taps of your own, as in `Downsample`.
        stride: Subsampling factor, an int or a pair.
        padding: As in ``nn.MaxPool2d``.
        dilation: As in ``nn.MaxPool2d``.
        ceil_mode: As in ``nn.MaxPool2d``.
        pad_type: Padding of the blur: "reflect", "replicate" or "zero".
        wide: As in `Downsample`.

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

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        filt_size: FilterSize = 4,
        stride: int | Sequence[int] = 2,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        ceil_mode: bool = False,
        pad_type: str = "reflect",
        wide: bool = False,
    ) -> None:
        window = Window.make(kernel_size, padding, dilation, ceil_mode, self.ndim)
        super().__init__(window, filt_size, stride, pad_type, wide)

    def _resample(self, x: Tensor) -> Tensor:
        return max_blur_pool(x, self.window, self.blur, self.kernel)

    def _script(self, x: Tensor) -> Tensor:
        x = scriptable.dense_maximum(x, self._size, self._padding, self._dilation, self._ceil_mode, self._stride)
        return scriptable.blurred(x, self.kernel, self._stride, self._mode, self._before, self._after)


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
        filt_size: Length of the binomial taps, 1 to 7, or taps of your own, as in `Downsample`.
        stride: Subsampling factor, an int or a pair.
        padding: As in ``nn.AvgPool2d``.
        ceil_mode: As in ``nn.AvgPool2d``.
        pad_type: Padding of the blur: "reflect", "replicate" or "zero".
        wide: As in `Downsample`.

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

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        filt_size: FilterSize = 4,
        stride: int | Sequence[int] = 2,
        padding: int | Sequence[int] = 0,
        ceil_mode: bool = False,
        pad_type: str = "reflect",
        wide: bool = False,
    ) -> None:
        window = Window.make(kernel_size, padding, 1, ceil_mode, self.ndim)
        super().__init__(window, filt_size, stride, pad_type, wide)

    def _resample(self, x: Tensor) -> Tensor:
        return avg_blur_pool(x, self.window, self.blur, self.kernel)

    def _script(self, x: Tensor) -> Tensor:
        sizes = list(x.size())[2:]
        out = scriptable.pooled(sizes, self._size, self._padding, self._dilation, self._ceil_mode, self._stride)
        before: list[int] = []
        after: list[int] = []
        for axis in range(len(out)):
            taps = self.kernel.size(axis + 2)
            before.append(self._padding[axis] - (self._size[axis] - taps) // 2)
            after.append((out[axis] - 1) * self._stride[axis] + taps - sizes[axis] - before[axis])
        return scriptable.blurred(x, self.kernel, self._stride, self._mode, before, after)


class AvgBlurPool1d(AvgBlurPool2d):
    """`AvgBlurPool2d` for ``(N, C, L)`` or ``(C, L)``."""

    ndim = 1


class AvgBlurPool3d(AvgBlurPool2d):
    """`AvgBlurPool2d` for ``(N, C, D, H, W)`` or ``(C, D, H, W)``."""

    ndim = 3
