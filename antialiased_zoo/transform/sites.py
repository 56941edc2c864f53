"""Walks over a traced model and decides, op by op, where its blur goes, or why it gets none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import fx, nn

from ..layers import StrideOffsets
from .graph import Dataflow
from .ops import Kind, Op, read_op
from .options import Rules
from .plans import Placement, Pool, Site
from .stride_offsets import find_stride_offsets
from .upsampling_ops import UPSAMPLING, read_upsampling

# An image has few channels: the first convolution of a part of a model that reads more does not read an image.
_IMAGE_CHANNELS = 4


class Walk:
    """One walk over a graph; each ``_conv``, ``_maxpool`` ... makes the `Site` of one node."""

    def __init__(self, flow: Dataflow, rules: Rules, graph: bool, whole: bool) -> None:
        self.flow = flow
        self.rules = rules
        self.graph = graph
        self.whole = whole
        self.next_max_pool: Pool = rules.stem_pool

    def sites(self) -> Iterator[Site]:
        """Yields each op that strides once, in the order of the graph."""
        seen: set[str] = set()
        past_stem: set[fx.Node] = set()
        for node in self.flow.graph.nodes:
            op = read_op(node, self.flow.module(node))
            reads_image = past_stem.isdisjoint(node.all_input_nodes)
            if not reads_image or (op and op.kind == "conv") or self.flow.is_opaque(node):
                past_stem.add(node)
            if op is None and self.rules.upsample is not None:
                op = read_upsampling(node, self.flow.module(node), self.flow.ndim_before(node))
            if op is None or not op.strides:
                continue
            site = self._site(node, op, reads_image)
            key = site.node if self.graph else site.name
            if key not in seen:
                seen.add(key)
                yield site

    def _site(self, node: fx.Node, op: Op, reads_image: bool) -> Site:
        module = self.flow.module(node)
        name = str(node.target) if module is not None else f"{self.flow.owner(node)}:{node.name}"
        site = Site(name, op.kind, op.stride, op.stride, 1, op.out_channels, None, "", node=node.name)
        if op.kind in UPSAMPLING:
            return self._upsampling(node, op, site)
        if op.kind in _LEFT_ALONE:
            return replace(site, reason=_LEFT_ALONE[op.kind])
        if module is None and op.kind == "conv" and self._is_filter(node):
            return replace(site, reason="its weight is no parameter: a fixed filter, which low-passes already")
        if op.kind not in self.rules.kinds:
            return replace(site, reason=f"left out by kinds={tuple(self.rules.kinds)}")
        if self.rules.where is not None and (module is None or not self.rules.where(module, name)):
            return replace(site, reason="left out by where")
        if module is None and not self.graph:
            return replace(site, reason="a function: modules alone cannot take its stride (graph=True can)")
        if op.kind == "conv":
            return self._conv(node, op, site, reads_image)
        if module is not None and not _is_plain(module):
            return self._own_pool(module, op, site)
        return self._maxpool(op, site) if op.kind == "maxpool" else self._avgpool(op, site)

    def _upsampling(self, node: fx.Node, op: Op, site: Site) -> Site:
        module = self.flow.module(node)
        if module is None and not self.graph:
            return replace(site, reason="a function: modules alone cannot blur after it (graph=True can)")
        placement = Placement(site.node if self.graph else site.name, "after")
        return upsampled(module, op, site, self.rules, self.flow.is_blurred(node), placement)

    def _is_filter(self, node: fx.Node) -> bool:
        weight = node.args[1] if len(node.args) > 1 else node.kwargs.get("weight")
        return isinstance(weight, fx.Node) and self.flow.is_fixed(weight)

    def _own_pool(self, module: nn.Module, op: Op, site: Site) -> Site:
        """A pool with a forward of its own stays, at stride 1, and the blur comes after it."""
        keep = (1,) * len(op.stride)
        offsets = find_stride_offsets(module, op, keep)
        if offsets is None:
            return replace(site, reason=_own_forward(module))
        dense = replace(site, keep=keep, blur_stride=op.stride, offsets=_shifted(offsets))
        placement = Placement(site.node if self.graph else site.name, "after")
        return replace(dense, placement=placement, reason="densely, by its own forward, then blur")

    def _maxpool(self, op: Op, site: Site) -> Site:
        pool, self.next_max_pool = self.next_max_pool, "max"
        return self._pool(op, site, pool)

    def _avgpool(self, op: Op, site: Site) -> Site:
        if max(op.stride) > 2 and op.window and all(k >= s for k, s in zip(op.window.size, op.stride, strict=True)):
            return replace(site, reason="averages over all of a long stride: a low-pass filter already")
        return self._pool(op, site, self.rules.avg_pool)

    def _pool(self, op: Op, site: Site, pool: Pool) -> Site:
        placement = Placement(site.node if self.graph else site.name, "instead")
        dense = replace(site, keep=(1,) * len(op.stride), blur_stride=op.stride, window=op.window)
        return replace(dense, placement=placement, reason=_POOL_REASONS[pool], pool=pool)

    def _conv(self, node: fx.Node, op: Op, site: Site, reads_image: bool) -> Site:
        module = self.flow.module(node)
        if module is not None and not self.flow.called_once(site.name) and not self.graph:
            return replace(site, reason="called at several places, which may need blurs of their own")
        if module is not None and hasattr(module, "blur_before"):
            return replace(site, reason="has a blur before it already")
        if op.in_channels is not None and op.in_channels < self.rules.min_channels:
            return replace(site, reason=f"reads {op.in_channels} channels (min_channels={self.rules.min_channels})")
        if reads_image and (self.whole or (op.in_channels or 0) <= _IMAGE_CHANNELS):
            return self._stem(node, op, site)
        return self._blurred(node, op, replace(site, keep=(1,) * len(op.stride), blur_stride=op.stride))

    def _stem(self, node: fx.Node, op: Op, site: Site) -> Site:
        limit = self.rules.stem_stride
        keep = tuple(min(stride, limit) for stride in op.stride)
        if keep == op.stride:
            return replace(site, reason=f"reads the image: keeps its stride of {max(keep)} (stem_stride={limit})")
        if any(stride % k for stride, k in zip(op.stride, keep, strict=True)):
            return replace(site, reason=f"reads the image: stem_stride={limit} does not divide its stride")
        if op.window is not None and op.window.size == op.stride and self.flow.has_attention:
            return replace(site, reason="cuts the image into a transformer's patches")
        blur_stride = tuple(stride // k for stride, k in zip(op.stride, keep, strict=True))
        return self._blurred(node, op, replace(site, keep=keep, blur_stride=blur_stride))

    def _blurred(self, node: fx.Node, op: Op, site: Site) -> Site:
        """Choose the place; ``site`` says already how the stride is shared."""
        here = site.node if self.graph else site.name
        if self.rules.placement == "before_conv":
            dense = replace(site, keep=op.stride, blur_stride=1, channels=op.in_channels)
            return replace(dense, placement=Placement(here, "before"), reason="a dense blur first (placement)")
        module = self.flow.module(node)
        if module is not None and not _is_plain(module):
            offsets = find_stride_offsets(module, op, site.keep)
            if offsets is None:
                return self._skipped(op, site, _own_forward(module))
            site = replace(site, offsets=_shifted(offsets))
        activation = self._activation_after(node)
        if activation is not None:
            placement = self._place_after(activation)
            reason = "after the nonlinearity" if placement else _NO_PLACE
            return replace(site, placement=placement, reason=reason) if placement else self._skipped(op, site, reason)
        if not op.is_pointwise or site.offsets:
            return replace(site, placement=Placement(here, "after"), reason=self._linear(node))
        if self.rules.shortcut == "stride":
            return self._skipped(op, site, 'linear 1x1: left strided (shortcut="stride")')
        reason = "linear 1x1: commutes with the blur, which is cheaper first"
        return replace(site, channels=op.in_channels, placement=Placement(here, "before"), reason=reason)

    def _linear(self, node: fx.Node) -> str:
        if any(map(self.flow.is_map_norm, node.users)):
            return "before a norm of the map's own statistics, which a dense map would change"
        return "linear: no nonlinearity to wait for"

    def _skipped(self, op: Op, site: Site, reason: str) -> Site:
        return replace(site, keep=op.stride, blur_stride=1, reason=reason)

    def _activation_after(self, node: fx.Node) -> fx.Node | None:
        """The nonlinearity that is alone in using the node's value, through norms and other linear modules."""
        while True:
            users = list(node.users)
            if len(users) == 2:
                return self._gate(node, users)
            if len(users) != 1:
                return None
            node = users[0]
            if self.flow.is_activation(node):
                return node
            if not self.flow.is_linear(node):
                return None

    def _gate(self, node: fx.Node, users: list[fx.Node]) -> fx.Node | None:
        """The product of a value with its own activation, such as ``x * sigmoid(x)``."""
        for gate, product in (users, users[::-1]):
            both = {node, gate} == set(product.all_input_nodes) and list(gate.users) == [product]
            if both and self.flow.is_activation(gate) and "mul" in str(product.target):
                return product
        return None

    def _place_after(self, node: fx.Node) -> Placement | None:
        """A module whose output is the node's value, or else the one module that reads it."""
        if self.graph:
            return Placement(node.name, "after")
        if node.op == "call_module" and self.flow.called_once(str(node.target)):
            return Placement(str(node.target), "after")
        for path in self.flow.modules_returning(node):
            return Placement(path, "after")
        if len(node.users) == 1:
            (user,) = node.users
            if user.op == "call_module" and self.flow.called_once(str(user.target)) and user.args[:1] == (node,):
                return Placement(str(user.target), "before")
        return None


def upsampled(module: nn.Module | None, op: Op, site: Site, rules: Rules, blurred: bool, placement: Placement) -> Site:
    """A dense blur right after an op that upsamples: with no stride to take, it need not wait for a nonlinearity."""
    if not op.stride:
        return replace(site, reason="upsamples by a factor that is not whole, or along axes whose number is not known")
    if rules.where is not None and (module is None or not rules.where(module, site.name)):
        return replace(site, reason="left out by where")
    if op.in_channels is not None and op.in_channels < rules.min_channels:
        return replace(site, reason=f"reads {op.in_channels} channels (min_channels={rules.min_channels})")
    if blurred:
        return replace(site, reason="has a blur after it already")
    reason = "upsamples: a dense blur removes the checkerboard"
    return replace(site, placement=placement, filter_size=rules.upsample, reason=reason)


def _is_plain(module: nn.Module) -> bool:
    return type(module).forward in _PLAIN_FORWARDS


def _own_forward(module: nn.Module) -> str:
    return f"{type(module).__name__} has a forward of its own, which is not its dense evaluation subsampled"


def _shifted(offsets: StrideOffsets) -> StrideOffsets | None:
    """None for the places 0, s, 2s, ..., which every blur keeps."""
    return offsets if any(map(any, offsets)) else None


_PLAIN_FORWARDS = frozenset(
    cls.forward
    for cls in (
        *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
        *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    )
)
_LEFT_ALONE: dict[Kind, str] = {
    "adaptive": "pools to a given size: its windows depend on the input's size",
    "slice": "a slice with steps: whether it moves along an image is not known",
    "resize": "resizes: where that is downwards, antialias=True makes interpolate low-pass filter",
    "unshuffle": "moves pixels into channels: none is dropped, and no blur can stand between",
}
_NO_PLACE = "modules alone cannot hold a blur between the nonlinearity and its readers (graph=True can)"
_POOL_REASONS: dict[Pool, str] = {
    "max": "dense maximum, then blur",
    "max2": "dense 2x2 maximum, then blur",
    "fit": "the blur averages in its place",
    "blur": "the blur alone",
}
