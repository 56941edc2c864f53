"""An op that may stride, and a row of the table of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..layers import Window

#: Kinds of ops that get blurs, unless ``kinds`` leaves them out.
KINDS = ("conv", "maxpool", "avgpool")


@dataclass(frozen=True)
class Op:
    """One op that may stride.

    Attributes:
        kind: "conv", "maxpool", "avgpool", "adaptive" (a pool to a given size above 1),
            "fractional" (a pool at random places), "slice" (``x[..., ::2, ::2]`` and other picking
            of places), "resize" (interpolation that may go downwards), "unshuffle" (pixels or
            patches into channels), or a registered op's own.
        stride: For each spatial axis; empty where it depends on the input's size or is not known.
        window: Kernel size, padding and dilation; None for slices and resizing.
        in_channels: Of a convolution, where it is a module.
        out_channels: Of a convolution, where it is a module.
        left: Why it is left alone, if it always is.
    """

    kind: str
    stride: tuple[int, ...]
    window: Window | None = None
    in_channels: int | None = None
    out_channels: int | None = None
    left: str = ""

    @property
    def strides(self) -> bool:
        """True if it takes, or may take, larger steps than one along some axis."""
        return max(self.stride, default=2) > 1

    @property
    def is_pointwise(self) -> bool:
        """True for a 1x1 convolution without padding, which commutes with a blur."""
        return self.window is not None and max(self.window.size) == 1 and not any(self.window.padding)


@dataclass(frozen=True)
class StridedOp:
    """A row of the table of strided ops: how one is read, and what takes its place.

    Attributes:
        modules: Classes of modules that do it.
        read: Gives what a module does (`Op`), or None if it does not stride.
        functions: Names of torch's functions and methods that do it.
        arguments: Names of those functions' arguments, in order.
        read_call: Gives what a call does from its arguments by name and the function's name.
        blurred: Gives the module that takes a module's place: dense, then blurred. None where the
            transform itself knows (convolutions, pools).
    """

    modules: tuple[type[nn.Module], ...] = ()
    read: Callable[[Any], Op | None] | None = None
    functions: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    read_call: Callable[[dict[str, Any], str], Op | None] | None = None
    blurred: Callable[[Any, Callable[..., nn.Module]], nn.Module] | None = None
