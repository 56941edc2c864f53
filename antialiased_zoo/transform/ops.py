"""`Op`, which describes an op that may stride, and `StridedOp`, a row of the table of strided ops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..layers import Window

#: Kinds of ops that get blurs, unless ``kinds`` excludes them.
KINDS = ("conv", "maxpool", "avgpool")


@dataclass(frozen=True)
class Op:
    """One op that may stride.

    Attributes:
        kind: "conv", "maxpool", "avgpool", "adaptive" (a pool to a given size above 1),
            "fractional" (a pool at random positions), "slice" (``x[..., ::2, ::2]`` and other
            selections of positions), "resize" (interpolation that may downsample), "unshuffle"
            (pixels or patches moved into channels), or a registered op's own kind.
        stride: One for each spatial axis; empty if it depends on the input's size or is unknown.
        window: Kernel size, padding and dilation; None for slices and resizing.
        in_channels: Input channels of a convolution module, else None.
        out_channels: Output channels of a convolution module, else None.
        left: Why it is always skipped; "" if it is not.
        strided: Paths, in its module, of the modules that have its stride; several in a part with branches.
    """

    kind: str
    stride: tuple[int, ...]
    window: Window | None = None
    in_channels: int | None = None
    out_channels: int | None = None
    left: str = ""
    strided: tuple[str, ...] = ("",)

    @property
    def strides(self) -> bool:
        """True if its stride is, or may be, above 1 along some axis."""
        return max(self.stride, default=2) > 1

    @property
    def is_pointwise(self) -> bool:
        """True for a 1x1 convolution without padding, which commutes with a blur."""
        return self.window is not None and max(self.window.size) == 1 and not any(self.window.padding)


@dataclass(frozen=True)
class StridedOp:
    """A row of the table of strided ops: how an op is read, and what replaces it.

    Attributes:
        modules: The module classes of the op.
        read: Returns a module's `Op`, or None if it does not stride.
        functions: Names of the torch functions and methods of the op.
        arguments: Names of those functions' arguments, in order.
        read_call: Returns a call's `Op`, given its arguments by name and the function's name.
        blurred: Returns a module's replacement, dense and then blurred. None if the transform
            itself makes it (convolutions, pools).
    """

    modules: tuple[type[nn.Module], ...] = ()
    read: Callable[[Any], Op | None] | None = None
    functions: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    read_call: Callable[[dict[str, Any], str], Op | None] | None = None
    blurred: Callable[[Any, Callable[..., nn.Module]], nn.Module] | None = None
