"""A plan: what the transform will do to a model, op by op, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..layers import FilterSize, StrideOffsets, Window

Where = Literal["before", "after", "instead", "within"]
#: What replaces a pool: "max", a dense maximum over its own window and then the blur; "max2", the same over a 2x2
#: window; "fit", the blur alone with the pool's centres and output size; "blur", the blur alone with an output size of
#: ceil(size / stride); "registered", what `register_strided_op` was given.
Pool = Literal["max", "max2", "fit", "blur", "registered"]


@dataclass(frozen=True)
class Placement:
    """Where a blur goes: before, after or instead of the module (in a graph, the node) named ``host``.

    "within" keeps a pool in the model, with its class and stride, but its call returns what its replacement computes:
    for models whose code may read the class or the stride.
    """

    host: str
    where: Where

    def __str__(self) -> str:
        return f"{self.where} {self.host}"


@dataclass(frozen=True)
class Cost:
    """The cost of running a model.

    Attributes:
        multiply_adds: Multiply-adds of convolutions, blurs and matrix products in one forward pass.
        activation_bytes: Bytes saved in a forward pass for the backward pass, without parameters and buffers.
    """

    multiply_adds: int
    activation_bytes: int

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.multiply_adds - other.multiply_adds, self.activation_bytes - other.activation_bytes)


@dataclass(frozen=True)
class Totals:
    """The costs of a whole model, original and antialiased.

    Attributes:
        input_size: Shape of the input for which they were measured.
        before: Cost of the original model.
        after: Cost of the antialiased model.
    """

    input_size: tuple[int, ...]
    before: Cost
    after: Cost

    @property
    def multiply_adds_ratio(self) -> float:
        """Multiply-adds of the antialiased model divided by those of the original (NaN if it has none)."""
        return _ratio(self.after.multiply_adds, self.before.multiply_adds)

    @property
    def activation_ratio(self) -> float:
        """Activation bytes of the antialiased model divided by those of the original (NaN if it saves none)."""
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
    """One strided op, and how it is treated.

    Attributes:
        name: Qualified name of its module; for a function, the calling module's name, a colon and the node's name.
        kind: "conv", "maxpool", "avgpool", "adaptive", "slice", "resize", "unshuffle", a registered op's kind, or, for
            upsampling ops, "convtranspose" or "upsample".
        stride: The op's stride (or upsampling factor) in the original model, for each spatial axis; empty if it
            depends on the input's size.
        keep: The stride that the op keeps.
        blur_stride: The stride that the blur takes over; the int 1 means a dense blur, before a convolution that keeps
            its stride or after an upsampling op.
        channels: Channels of the blurred map, or None if unknown.
        placement: Where the blur goes, or None if the op is skipped.
        reason: Why it goes there, or why the op is skipped.
        pool: What replaces a pool; None for other ops.
        window: A pool's window.
        filter_size: Filter size of the blur after an upsampling op; None for other ops, which share one.
        offsets: Where the blur starts, for an op whose padding depends on its stride; else None.
        node: The op's node in the graph; "" in parts that are planned separately.
        norms: Names of the batch norms between the op and its blur. They must not be replaced by norms with per-map
            statistics, which a dense map would change.
        part: Name of the part around the op that could not be traced, and is read as one op with it; "" for others.
        branch: True for one of several convolutions whose sum gets one blur.
        shares: Name of the branch whose blur this one shares; "" for the first branch.
        keeper: Name of the module that contains the op and its blur, and checks before each forward that both are
            still in place.
        level: Number of treated ops before it, on the longest path from the input.
        extra: The cost that antialiasing it adds, if the plan was made for an input size. The branches of a sum, and in
            a graph the calls of one convolution, are counted with the first of them.
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
    part: str = ""
    branch: bool = False
    shares: str = ""
    keeper: str | None = None
    level: int = 0
    extra: Cost | None = None


@dataclass(frozen=True)
class Plan:
    """Every strided op of a model, in the order of its dataflow; ``print`` shows it as a table.

    Attributes:
        sites: The ops.
        notes: What could not be read; each note names a module and the reason.
        graph: True if placements name nodes of a graph, not modules.
        totals: The costs of the whole model, if the plan was made for an input size.
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
        """The ops that stay unchanged, each with its reason."""
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
