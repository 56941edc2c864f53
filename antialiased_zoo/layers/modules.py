"""Modules that blur and subsample, or upsample and blur."""

# torch.jit.script reads annotations: no `from __future__ import annotations`, and class annotations
# only for tensors.
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]  # public, and not listed

from . import scriptable
from .dispatch import blur_pool
from .filters import Blur, FilterSize, read_filter_size
from .upsampling import Interpolation, blur_upsample


class Blurred(nn.Module):
    """Base class of the layers: holds a checked blur and its kernel, a non-persistent buffer."""

    kernel: Tensor
    ndim = 2

    def __init__(self, blur: Blur, channels: int | None = None) -> None:
        super().__init__()
        self.blur = blur
        self.register_buffer("kernel", _made(blur, channels or 1), persistent=False)
        # The blur's settings again, in types that TorchScript supports.
        self._mode, self._stride = blur.mode, list(blur.stride)
        self._before, self._after = ([pad[side] for pad in blur.padding] for side in (0, 1))

    def forward(self, input: Tensor) -> Tensor:
        """Resample a map."""
        x = input  # torch's pools name it so, and a model may call them by keyword
        if is_scripting():
            return self._script(x) if x.dim() > len(self._stride) + 1 else self._script(x.unsqueeze(0)).squeeze(0)
        else:  # with an else, TorchScript compiles only the first branch
            return self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        if isinstance(x, fx.Proxy):  # a leaf module for every tracer, like torch's own layers
            return cast(Tensor, x.tracer.create_proxy("call_module", x.tracer.path_of_module(self), (x,), {}))
        return self._resample(x)

    def _resample(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _script(self, x: Tensor) -> Tensor:
        """`_resample` for a batch, in the form that TorchScript compiles."""
        return scriptable.blurred(x, self.kernel, self._stride, self._mode, self._before, self._after)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        # Compute the kernel again: to_empty() and FSDP's materialisation leave it uninitialised, and
        # checkpoints do not hold it.
        if self.kernel.device.type == "meta":  # torch cannot move it, and load_state_dict(assign=True) leaves it there
            self.kernel = torch.empty_like(self.kernel, device="cpu")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # untyped in torch
        self.kernel = _made(self.blur, len(self.kernel), self.kernel.dtype, self.kernel.device)
        return self


def _made(blur: Blur, channels: int, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
    """A kernel that autograd can save, even if it is made inside `torch.inference_mode`."""
    with torch.inference_mode(False):
        return blur.kernel(dtype, channels).to(device=device)


class _Resampler(Blurred):
    """Base class of the layers that blur a map."""

    def __init__(self, channels: int | None, pad_type: str, filt_size: FilterSize, blur: Blur) -> None:
        if channels is not None and (not isinstance(channels, int) or channels < 1):
            raise ValueError(f"channels must be a positive integer, or None for any number, got {channels!r}")
        super().__init__(blur, channels)
        self.channels = channels
        self.pad_type = pad_type
        self.filt_size = read_filter_size(filt_size)


def show_filter(filt_size: int | tuple[float, ...]) -> str:
    """Format a filter size, or taps with four significant digits."""
    if isinstance(filt_size, int):
        return str(filt_size)
    return f"({', '.join(f'{tap:.4g}' for tap in filt_size)})"


class Downsample(_Resampler):
    """Blurs each channel and subsamples; `BlurPool` is the same class.

    Args:
        channels: Channels for which a kernel is kept. Every channel is blurred alike, so that a map
            with more or fewer is blurred too, as after pruning; None keeps a kernel for one.
        pad_type: "reflect" ("refl"), "replicate" ("repl") or "zero".
        filt_size: Length of the binomial taps, 1 to 7: 2, 3, 4, 5 are Rect-2, Tri-3, Tri-4, Bin-5;
            1 subsamples only. Or custom taps: a 1-D sequence, normalised to sum to one.
        stride: Subsampling factor. A pair gives one for each axis, and an axis with stride 1 is
            then not blurred.
        pad_off: Extra pixels of padding on each side.
        wide: Widen binomial taps if the stride is above 2 (`antialiased_zoo.wide_taps`). The
            published weights do not use it.
        dense: Blur as for ``stride``, but keep every pixel: for a map that another operation
            subsamples or has upsampled.

    Shape:
        ``(N, C, H, W)`` or ``(C, H, W)`` to ``(N, C, ceil(H / stride), ceil(W / stride))``; with
        ``dense`` the size stays. Dtype, device and memory format are the input's.

    Raises:
        ValueError: If an argument is out of range.

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
        return blur_pool(x, self.blur, self._buffers["kernel"])  # faster than nn.Module's attribute lookup

    def extra_repr(self) -> str:
        """The layer's arguments, for `print(model)`."""
        more = f", pad_off={self.pad_off}" if self.pad_off else ""
        more += "".join(f", {name}=True" for name in ("wide", "dense") if getattr(self, name))
        return f"{self.channels}, filt_size={show_filter(self.filt_size)}, stride={self.stride}, {self.pad_type}{more}"


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
    """Upsamples by zero insertion and a low-pass filter that keeps constants: `Downsample` transposed.

    Args:
        channels: Channels for which a kernel is kept. Every channel is blurred alike, so that a map
            with more or fewer is blurred too, as after pruning; None keeps a kernel for one.
        pad_type: "replicate" ("repl"), "reflect" ("refl") or "zero" (a constant map then fades at
            the border).
        filt_size: 2 to 7: 2 is nearest-neighbour, 3 and (at stride 2) 4 linear interpolation, 5 to
            7 are smoother. Or custom taps, a 1-D sequence of at least ``stride`` of them.
        stride: Upsampling factor. A pair gives one for each axis, and an axis with stride 1 is then
            not blurred.

    Shape:
        ``(N, C, H, W)`` or ``(C, H, W)`` to ``(N, C, H * stride, W * stride)``. Dtype, device and
        memory format are the input's.

    Raises:
        ValueError: If an argument is out of range.

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
        return blur_upsample(x, cast(Interpolation, self.blur), self.kernel)

    def _script(self, x: Tensor) -> Tensor:
        return scriptable.upsampled(
            x, self.kernel, self._stride, self._mode, self._before, self._after, self._crop, self._extra
        )

    def extra_repr(self) -> str:
        """The layer's arguments, for `print(model)`."""
        return f"{self.channels}, filt_size={show_filter(self.filt_size)}, stride={self.stride}, {self.pad_type}"


class BlurUpsample1d(BlurUpsample):
    """`BlurUpsample` for ``(N, C, L)`` or ``(C, L)``."""

    ndim = 1


class BlurUpsample3d(BlurUpsample):
    """`BlurUpsample` for ``(N, C, D, H, W)`` or ``(C, D, H, W)``."""

    ndim = 3
