"""Reads a model's dataflow and says, op by op, where its blur goes or why it gets none. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from torch import fx, nn
from torch.nn.modules import activation as activations
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from .dataflow import Dataflow

Kind = Literal["conv", "maxpool", "avgpool"]
Shortcut = Literal["blur", "stride"]
StemPool = Literal["max", "max2", "blur"]

_Strided = nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d
_LINEAR = (_NormBase, _DropoutNd, nn.GroupNorm, nn.LayerNorm, nn.Identity)
_NOT_POINTWISE = (
    activations.MultiheadAttention,
    activations.Softmax,
    activations.Softmax2d,
    activations.LogSoftmax,
)
_ACTIVATIONS = tuple(
    cls
    for name in activations.__all__
    if isinstance(cls := getattr(activations, name), type) and cls not in _NOT_POINTWISE
)
_ACTIVATION_FUNCTIONS = frozenset(
    [
        "celu",
        "elu",
        "gelu",
        "glu",
        "hardshrink",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "leaky_relu",
        "logsigmoid",
        "mish",
        "prelu",
        "relu",
        "relu6",
        "rrelu",
        "selu",
        "sigmoid",
        "silu",
        "softplus",
        "softsign",
        "tanh",
    ]
)
_POOL_REASONS: dict[StemPool, str] = {
    "max": "dense maximum, then blur",
    "max2": "dense 2x2 maximum, then blur",
    "blur": "the blur alone",
}


@dataclass(frozen=True)
class Placement:
    """Where a blur goes: before or after the module at ``host``, or instead of it."""

    host: str
    where: Literal["before", "after", "instead"]

    def __str__(self) -> str:
        return f"{self.where} {self.host}"


@dataclass(frozen=True)
class Site:
    """One strided op.

    Attributes:
        name: Qualified name of its module.
        kind: "conv", "maxpool" or "avgpool".
        stride: The op's stride in the model as it is.
        keep: The stride that the op keeps; the blur takes over ``stride / keep``.
        channels: Channels that the blur sees, or None where the module does not tell.
        placement: Where the blur goes, or None if the op is skipped.
        pool: What becomes of a pool: "max" a dense maximum over the op's own window and then the blur, "max2" over a
            2x2 window, "blur" the blur alone; None for a convolution.
        reason: Why it goes there, or why the op is skipped.
    """

    name: str
    kind: Kind
    stride: tuple[int, ...]
    keep: tuple[int, ...]
    channels: int | None
    placement: Placement | None
    reason: str
    pool: StemPool | None = None

    @property
    def blur_stride(self) -> tuple[int, ...]:
        """The stride that the blur takes over, for each axis."""
        return tuple(s // k for s, k in zip(self.stride, self.keep, strict=True))


@dataclass(frozen=True)
class Plan:
    """Every strided op of a model in the order of its dataflow; ``print`` shows it as a table."""

    sites: tuple[Site, ...] = field(default=())

    @property
    def treated(self) -> tuple[Site, ...]:
        """The ops that get a blur."""
        return tuple(site for site in self.sites if site.placement)

    @property
    def skipped(self) -> tuple[Site, ...]:
        """The ops left as they are, each with its reason."""
        return tuple(site for site in self.sites if not site.placement)

    def __str__(self) -> str:
        header = ("op", "kind", "stride", "kept", "channels", "blur", "reason")
        rows = [header] + [
            (
                site.name,
                site.kind,
                "x".join(map(str, site.stride)),
                "x".join(map(str, site.keep)),
                str(site.channels or "any"),
                str(site.placement or "skipped"),
                site.reason,
            )
            for site in self.sites
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(lines)


def plan(
    model: nn.Module,
    *,
    stem_stride: int = 2,
    shortcut: Shortcut = "blur",
    stem_pool: StemPool = "max",
) -> Plan:
    """Find every strided convolution and pool of a model, and where its blur belongs.

    The model is traced with `torch.fx`, not run: it may be on any device, the meta device too. Nothing is changed.

    Args:
        model: The network to read.
        stem_stride: Stride that a convolution which reads the image keeps (2 is the paper's; 1 antialiases it fully).
        shortcut: "blur" antialiases linear 1x1 strided convolutions, "stride" leaves them strided.
        stem_pool: What becomes of the first max pool: "max", "max2" or "blur" (see `Site.pool`).

    Returns:
        The `Plan`.

    Raises:
        ValueError: If an option is out of range.

    Source: Zhang, ICML 2019, section 3.2 (figure 2), and the published networks.

    Example:
        >>> print(plan(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))))
        op  kind     stride  kept  channels  blur       reason
        2   maxpool  2x2     1x1   any       instead 2  dense maximum, then blur
    """
    if not isinstance(stem_stride, int) or stem_stride < 1:
        raise ValueError(f"stem_stride must be a positive integer, got {stem_stride!r}")
    if shortcut not in ("blur", "stride"):
        raise ValueError(f'shortcut must be "blur" or "stride", got {shortcut!r}')
    if stem_pool not in _POOL_REASONS:
        raise ValueError(f"stem_pool must be one of {tuple(_POOL_REASONS)}, got {stem_pool!r}")
    return Plan(tuple(_Planner(Dataflow(model), stem_stride, shortcut, stem_pool).sites()))


class _Planner:
    """One walk over a graph; each ``_conv``, ``_maxpool`` ... makes the `Site` of one node."""

    def __init__(self, flow: Dataflow, stem_stride: int, shortcut: Shortcut, stem_pool: StemPool) -> None:
        self.flow = flow
        self.stem_stride = stem_stride
        self.shortcut = shortcut
        self.next_max_pool = stem_pool

    def sites(self) -> Iterator[Site]:
        seen: set[str] = set()
        past_stem: set[fx.Node] = set()
        for node in self.flow.graph.nodes:
            module, name = self.flow.module(node), str(node.target)
            is_stem = past_stem.isdisjoint(node.all_input_nodes)
            if not is_stem or isinstance(module, nn.Conv2d):
                past_stem.add(node)
            if isinstance(module, _Strided) and max(_pair(module.stride)) > 1 and name not in seen:
                seen.add(name)
                yield self._site(node, name, module, is_stem)

    def _site(self, node: fx.Node, name: str, module: _Strided, is_stem: bool) -> Site:
        if isinstance(module, nn.Conv2d):
            return self._conv(node, name, module, is_stem)
        if isinstance(module, nn.AvgPool2d):
            return self._pool(name, "avgpool", module, "blur")
        pool, self.next_max_pool = self.next_max_pool, "max"
        return self._pool(name, "maxpool", module, pool)

    def _pool(self, name: str, kind: Kind, module: nn.MaxPool2d | nn.AvgPool2d, pool: StemPool) -> Site:
        placement = Placement(name, "instead")
        return Site(name, kind, _pair(module.stride), (1, 1), None, placement, _POOL_REASONS[pool], pool)

    def _conv(self, node: fx.Node, name: str, conv: nn.Conv2d, is_stem: bool) -> Site:
        stride = _pair(conv.stride)
        keep = tuple(min(s, self.stem_stride) for s in stride) if is_stem else (1, 1)

        def site(placement: Placement | None, reason: str) -> Site:
            channels = conv.in_channels if placement == Placement(name, "before") else conv.out_channels
            return Site(name, "conv", stride, keep if placement else stride, channels, placement, reason)

        if keep == stride:
            return site(None, f"reads the image: keeps its stride of {max(stride)} (stem_stride={self.stem_stride})")
        if any(s % k for s, k in zip(stride, keep, strict=True)):
            return site(None, f"reads the image: stem_stride={self.stem_stride} does not divide its stride")
        if not self.flow.called_once(name):
            return site(None, "called at several places, which may need blurs of their own")
        activation = self._activation_after(node)
        if activation is None:
            return self._linear_conv(name, conv, site)
        placement = self._place_after(activation)
        if placement is None:
            return site(None, "modules alone cannot hold a blur between the nonlinearity and those that use it")
        return site(placement, "after the nonlinearity")

    def _linear_conv(self, name: str, conv: nn.Conv2d, site: Callable[[Placement | None, str], Site]) -> Site:
        if max(conv.kernel_size) > 1 or any(conv.padding):
            return site(Placement(name, "after"), "linear: no nonlinearity to wait for")
        if self.shortcut == "stride":
            return site(None, 'linear 1x1: left strided (shortcut="stride")')
        return site(Placement(name, "before"), "linear 1x1: commutes with the blur, which is cheaper first")

    def _activation_after(self, node: fx.Node) -> fx.Node | None:
        """The nonlinearity that is alone in using the node's value, through norms and other linear modules."""
        while len(node.users) == 1:
            (node,) = node.users
            if self._is_activation(node):
                return node
            if not isinstance(self.flow.module(node), _LINEAR):
                return None
        return None

    def _is_activation(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self.flow.module(node), _ACTIVATIONS)
        name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
        return str(name).rstrip("_") in _ACTIVATION_FUNCTIONS

    def _place_after(self, node: fx.Node) -> Placement | None:
        """A module whose output is the node's value, or else the one module that reads it."""
        if node.op == "call_module" and self.flow.called_once(str(node.target)):
            return Placement(str(node.target), "after")
        for path in self.flow.modules_returning(node):
            return Placement(path, "after")
        if len(node.users) == 1:
            (user,) = node.users
            if user.op == "call_module" and self.flow.called_once(str(user.target)) and user.args[:1] == (node,):
                return Placement(str(user.target), "before")
        return None


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value, value)
