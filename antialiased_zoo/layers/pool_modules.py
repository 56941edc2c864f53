"""Max and average pools with a blur that takes over the pool's stride."""

# torch.jit.script reads annotations: no `from __future__ import annotations`, and class annotations
# only for tensors.
from collections.abc import Sequence

from torch import Tensor

from . import scriptable
from .dispatch import max_blur_pool
from .filters import Blur, FilterSize, read_filter_size
from .modules import Blurred, show_filter
from .pooling import avg_blur_pool
from .window import Window


class _Pooled(Blurred):
    """Base class of the pools: a window, and a blur that takes over the pool's stride."""

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
            f"kernel_size={window.size}, filt_size={show_filter(self.filt_size)}, stride={self.blur.stride}, "
            f"padding={window.padding}, dilation={window.dilation}, ceil_mode={window.ceil_mode}{wide}"
        )


class MaxBlurPool2d(_Pooled):
    """Max pooling evaluated densely, then blurred and subsampled to the output size of ``nn.MaxPool2d``.

    Args:
        kernel_size: Window of the maximum, an int or a pair.
        filt_size: Length of the binomial taps, 1 to 7, or custom taps, as in `Downsample`.
        stride: Subsampling factor, an int or a pair.
        padding: As in ``nn.MaxPool2d``.
        dilation: As in ``nn.MaxPool2d``.
        ceil_mode: As in ``nn.MaxPool2d``.
        pad_type: Padding of the blur: "reflect", "replicate" or "zero".
        wide: As in `Downsample`.

    Shape:
        ``(N, C, H, W)`` or ``(C, H, W)`` to the shape that ``nn.MaxPool2d`` gives with the same arguments.

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
    """A blur that replaces an average pool, with the window centres and output size of ``nn.AvgPool2d``.

    Args:
        kernel_size: Window of the replaced average pool, an int or a pair; it sets the centres.
        filt_size: Length of the binomial taps, 1 to 7, or custom taps, as in `Downsample`.
        stride: Subsampling factor, an int or a pair.
        padding: As in ``nn.AvgPool2d``.
        ceil_mode: As in ``nn.AvgPool2d``.
        pad_type: Padding of the blur: "reflect", "replicate" or "zero".
        wide: As in `Downsample`.

    Shape:
        ``(N, C, H, W)`` or ``(C, H, W)`` to the shape that ``nn.AvgPool2d`` gives with the same arguments.

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
