"""What the transform will do to a model, op by op, as plain data: printed, tested, and applied by `transform`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..layers import FilterSize, StrideOffsets, Window

Where = Literal["before", "after", "instead", "within"]
#: What becomes of a pool: a dense maximum over its own window and then the blur, over a 2x2 window, the blur alone on
#: the pool's centres and to its size, or the blur alone to ceil(size / stride).
Pool = Literal["max", "max2", "fit", "blur", "registered"]


@dataclass(frozen=True)
class Placement:
    """Where a blur goes: before or after, or instead of, the module (or, in a graph, the node) called ``host``.

    "within" leaves a pool in place, with its class and its stride, and lets its call return what would stand there
    instead of it: for models whose code may ask for either.
    """

    host: str
    where: Where

    def __str__(self) -> str:
        return f"{self.where} {self.host}"


@dataclass(frozen=True)
class Cost:
    """What running a model takes.

    Attributes:
        multiply_adds: Of convolutions, blurs and matrix products, in one forward pass.
        activation_bytes: What is kept of a forward pass for the backward pass, parameters and buffers aside.
    """

    multiply_adds: int
    activation_bytes: int

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.multiply_adds - other.multiply_adds, self.activation_bytes - other.activation_bytes)


@dataclass(frozen=True)
class Totals:
    """A whole model's costs, as it is and antialiased.

    Attributes:
        input_size: Shape of the input at which they were taken.
        before: Of the model as it is.
        after: Of the antialiased model.
    """

    input_size: tuple[int, ...]
    before: Cost
    after: Cost

    @property
    def multiply_adds_ratio(self) -> float:
        """Multiply-adds of the antialiased model, as a multiple of the model's own (NaN if it has none)."""
        return _ratio(self.after.multiply_adds, self.before.multiply_adds)

    @property
    def activation_ratio(self) -> float:
        """Activation bytes of the antialiased model, as a multiple of the model's own (NaN if it keeps none)."""
        return _ratio(self.after.activation_bytes, self.before.activation_bytes)

    def __str__(self) -> str:
        before, after = self.before, self.after
        return (
            f"input {'x'.join(map(str, self.input_size))}: "
            f"multiply-adds {_count(before.multiply_adds)} -> {_count(after.multiply_adds)} "
            f"({self.multiply_adds_ratio:.2f} times), activations kept for the backward pass "
            f"{_mebibytes(before.activation_bytes)} -> {_mebibytes(after.activation_bytes)} "
            f"({self.activation_ratio:.2f} times)"
        )


@dataclass(frozen=True)
class Site:
    """One op that strides.

    Attributes:
        name: Qualified name of its module; for a function the calling module's, a colon, and the graph node's.
        kind: "conv", "maxpool", "avgpool", "adaptive", "slice", "resize", "unshuffle", or, of ops that upsample,
            "convtranspose" or "upsample".
        stride: The op's stride (or upsampling factor) in the model as it is, for each spatial axis; empty where the
            input's size decides.
        keep: The stride that the op keeps.
        blur_stride: The stride that the blur takes; an int of 1 blurs densely, before a convolution that keeps its own
            or after an op that upsamples.
        channels: Channels that the blur sees, or None where the op does not tell.
        placement: Where the blur goes, or None if the op is skipped.
        reason: Why it goes there, or why the op is skipped.
        pool: What becomes of a pool; None for other ops.
        window: A pool's window.
        filter_size: Of the blur after an op that upsamples; None for the others, which share one.
        offsets: Where the blur starts, for an op whose padding depends on its stride; else None.
        node: The op's node in the graph; "" in parts that are read by themselves.
        norms: Names of the batch norms between the op and its blur: they may not become norms of the map's own
            statistics, which a dense map would change.
        branch: True for one of several convolutions whose sum one blur follows.
        keeper: The module above the op and its blur that checks, before each forward, that they are still together.
        shares: Name of the branch whose blur this one shares, if it is not the first.
        level: How many treated ops lie before it, on the longest way from the input.
        extra: What antialiasing it adds to the model's costs, where the plan was made for an input size.
    """

    name: str
    kind: str
    stride: tuple[int, ...]
    keep: tuple[int, ...]
    blur_stride: tuple[int, ...] | int
    channels: int | None
    placement: Placement | None
    reason: str
    pool: Pool | None = None
    window: Window | None = None
    filter_size: FilterSize | None = None
    offsets: StrideOffsets | None = None
    node: str = ""
    norms: tuple[str, ...] = ()
    branch: bool = False
    shares: str = ""
    keeper: str | None = None
    level: int = 0
    extra: Cost | None = None


@dataclass(frozen=True)
class Plan:
    """Every op of a model that strides, in the order of its dataflow; ``print`` shows it as a table.

    Attributes:
        sites: The ops.
        notes: What could not be read, and so was not looked into: each line names a module and the reason.
        graph: True if placements name nodes of a graph, not modules.
        totals: The whole model's costs, where the plan was made for an input size.
    """

    sites: tuple[Site, ...] = ()
    notes: tuple[str, ...] = ()
    graph: bool = False
    totals: Totals | None = None

    @property
    def treated(self) -> tuple[Site, ...]:
        """The ops that get a blur."""
        return tuple(site for site in self.sites if site.placement)

    @property
    def skipped(self) -> tuple[Site, ...]:
        """The ops left as they are, each with its reason."""
        return tuple(site for site in self.sites if not site.placement)

    def __str__(self) -> str:
        extra = ("+multiply-adds", "+activations") if self.totals else ()
        rows = [("op", "kind", "stride", "kept", "channels", "blur", *extra, "reason")]
        for site in self.sites:
            stride, keep = ("x".join(map(str, value)) or "varies" for value in (site.stride, site.keep))
            channels, blur = str(site.channels or "any"), str(site.placement or "skipped")
            extra = _cells(site.extra) if self.totals else ()
            rows.append((site.name, site.kind, stride, keep, channels, blur, *extra, site.reason))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, *self.notes, *([str(self.totals)] if self.totals else [])])


def _cells(extra: Cost | None) -> tuple[str, str]:
    return (_count(extra.multiply_adds), _mebibytes(extra.activation_bytes)) if extra else ("", "")


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} G" if abs(number) >= 1e9 else f"{number / 1e6:.2f} M"


def _mebibytes(number: int) -> str:
    return f"{number / 2**20:.2f} MiB"


def _ratio(after: int, before: int) -> float:
    return after / before if before else float("nan")
