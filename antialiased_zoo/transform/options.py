"""The options that decide where blurs go."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict, get_args

from torch import nn

from ..layers import FilterSize, read_filter_size
from .ops import KINDS

Shortcut = Literal["blur", "stride"]
StemPool = Literal["max", "max2", "blur"]
AvgPool = Literal["fit", "blur"]
Position = Literal["after_nonlinearity", "before_conv"]
Filter = Callable[[nn.Module, str], bool]


class PlanOptions(TypedDict, total=False):
    """The keyword arguments of `plan`."""

    stem_stride: int
    shortcut: Shortcut
    stem_pool: StemPool
    avg_pool: AvgPool
    placement: Position
    kinds: Collection[str]
    min_channels: int
    where: Filter | None
    upsample: FilterSize | None


@dataclass(frozen=True)
class Placing:
    """The checked options that decide where blurs go; `antialias_` documents them.

    Raises:
        ValueError: If one is out of range; the message says what is allowed.
        TypeError: If ``where`` is no function.
    """

    stem_stride: int = 2
    shortcut: Shortcut = "blur"
    stem_pool: StemPool = "max"
    avg_pool: AvgPool = "fit"
    placement: Position = "after_nonlinearity"
    kinds: Collection[str] = KINDS
    min_channels: int = 0
    where: Filter | None = None
    upsample: FilterSize | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.stem_stride, int) or self.stem_stride < 1:
            raise ValueError(f"stem_stride must be a positive integer, got {self.stem_stride!r}")
        for name, kind in _CHOICES.items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {get_args(kind)}, got {getattr(self, name)!r}")
        if isinstance(self.kinds, str) or not set(self.kinds) <= set(KINDS):
            raise ValueError(f"kinds must be a selection of {KINDS}, got {self.kinds!r}")
        if self.where is not None and not callable(self.where):
            raise TypeError(f"where must be a function of (module, qualified name), got {self.where!r}")
        if self.upsample is not None:
            read_filter_size(self.upsample)

    def chooses(self, module: nn.Module | None, name: str, inside: Sequence[str] = ("",)) -> bool:
        """False if ``where`` excludes a module, or one at the paths inside it; any ``where`` excludes functions."""
        if self.where is None or module is None:
            return self.where is None
        return all(self.where(module.get_submodule(path), f"{name}.{path}".rstrip(".")) for path in inside)


def read_placing(options: Mapping[str, Any]) -> Placing:
    """Check the options of `plan`.

    Raises:
        TypeError: If there is no such option; the message suggests the nearest.
        ValueError: If one is out of range.
    """
    own = [field.name for field in fields(Placing)]
    known = [*own, "filter_size", "pad_type", "wide", "downsampler", "like", "graph"]  # which others take
    for name in options:
        if name not in own:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"the options are {', '.join(known)}"
            raise TypeError(f"there is no option {name!r} here: {hint}")
    return Placing(**options)


_CHOICES = {"shortcut": Shortcut, "stem_pool": StemPool, "avg_pool": AvgPool, "placement": Position}
