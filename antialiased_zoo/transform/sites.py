"""Walks over a traced model and makes a site of each strided op: where its blur goes, or why it gets none."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from torch import fx, nn

from .channel_pools import pools_channels
from .conv_placement import ConvPlacement
from .graph import Dataflow
from .ops import KINDS, Op
from .options import Placing
from .plans import Placement, Pool, Site
from .stride_offsets import is_plain, offsets_of_call, own_forward, shifted
from .upsampling_ops import UPSAMPLING, read_upsampling


class Walk:
    """One walk over a graph; ``_conv``, ``_maxpool`` and the like make the `Site` of one node.

    Args:
        flow: The traced model, or a part of it.
        options: The plan's options.
        graph: Place blurs between the graph's nodes.
        image: Most channels of an input that is taken for an image; None if any input is.
        attends: Whether the model that this is a part of has attention.

    Attributes:
        past_image: Paths of the parts that could not be traced and do not read the image.
        parts: Paths of the parts that could not be traced and are read as one op each.
    """

    def __init__(self, flow: Dataflow, options: Placing, graph: bool, image: int | None, attends: bool = False) -> None:
        self.flow = flow
        self.options = options
        self.graph = graph
        self.image = image
        self.attends = attends
        self._convs = ConvPlacement(flow, options, graph)
        self.past_image: set[str] = set()
        self.parts: set[str] = set()
        self.next_max_pool: Pool = options.stem_pool

    def sites(self) -> list[Site]:
        """The strided ops, each once, in the order of the graph."""
        found: dict[tuple[str, str], Site] = {}
        past_stem: set[fx.Node] = set()
        levels: dict[fx.Node, int] = {}
        for node in self.flow.graph.nodes:
            levels[node] = max((levels[source] for source in node.all_input_nodes), default=0)
            op = self.flow.op(node)
            reads_image = past_stem.isdisjoint(node.all_input_nodes)
            if not reads_image or (op and op.kind == "conv") or self.flow.is_opaque(node):
                past_stem.add(node)
            if not reads_image and self.flow.is_opaque(node):
                self.past_image.add(str(node.target))
            if op is None and self.options.upsample is not None:
                op = read_upsampling(node, self.flow.module(node), self.flow.ndim_before(node))
            if op is not None and op.strides:
                site = replace(self._site(node, op, reads_image), level=levels[node])
                levels[node] += site.placement is not None
                for one in self._each(site, op):
                    found.setdefault((site.node if self.graph else "", one.name), one)
        sites = _all_or_none(_with_branches(list(found.values())))
        return sites if self.graph else [self._with_keeper(site) for site in sites]

    def _each(self, site: Site, op: Op) -> list[Site]:
        """The sites of the modules that have an op's stride: the op's own or, in a part, those in it."""
        if op.strided == ("",):
            return [site]
        self.parts.add(site.name)
        branch = site.branch or len(op.strided) > 1
        names = (f"{site.name}.{path}" for path in op.strided)
        return [replace(site, name=name, part=site.name, branch=branch) for name in names]

    def _with_keeper(self, site: Site) -> Site:
        """Set the keeper: the nearest called module that contains both the op and its blur."""
        if site.placement is None or site.placement.where == "instead":
            return site
        names = [name for path in (site.name, site.placement.host) for name in self.flow.names[path]]
        return replace(site, keeper=self.flow.called_above(*names))

    def _site(self, node: fx.Node, op: Op, reads_image: bool) -> Site:
        module = self.flow.module(node)
        name = str(node.target) if module is not None else f"{self.flow.owner(node)}:{node.name}"
        site = Site(name, op.kind, op.stride, op.stride, 1, op.out_channels, None, "", node=node.name)
        if op.kind in UPSAMPLING:
            return self._upsampling(node, op, site)
        if op.left or hasattr(module, "blur_within"):
            return replace(site, reason=op.left or "is blurred already")
        if module is None and op.kind == "conv" and self._is_filter(node):
            return replace(site, reason="its weight is not a parameter: a fixed filter stays unchanged")
        if op.kind in KINDS and op.kind not in self.options.kinds:
            return replace(site, reason=f"excluded by kinds={tuple(self.options.kinds)}")
        if not self.options.chooses(module, name, op.strided):
            return replace(site, reason="excluded by where")
        if module is None and not self.graph:
            return replace(site, reason=LOOSE if self.flow.is_loose(node) else _FUNCTION)
        if op.kind == "conv":
            return self._conv(node, op, site, reads_image)
        if op.kind not in KINDS:
            return self._pool(op, site, "registered")
        if pools_channels(node, op, self.flow):
            return replace(site, reason="pools over channels, not along an image axis")
        if module is not None and not is_plain(module):
            return self._own_pool(node, module, op, site)
        return self._maxpool(op, site) if op.kind == "maxpool" else self._avgpool(op, site)

    def _upsampling(self, node: fx.Node, op: Op, site: Site) -> Site:
        module = self.flow.module(node)
        if module is None and not self.graph:
            return replace(site, reason="a function: modules alone cannot blur after it")
        placement = Placement(site.node if self.graph else site.name, "after")
        return upsampled(module, op, site, self.options, self.flow.is_blurred(node), placement)

    def _is_filter(self, node: fx.Node) -> bool:
        weight = node.args[1] if len(node.args) > 1 else node.kwargs.get("weight")
        return isinstance(weight, fx.Node) and self.flow.is_fixed(weight)

    def _own_pool(self, node: fx.Node, module: nn.Module, op: Op, site: Site) -> Site:
        """A pool with its own forward stays, at stride 1, and the blur goes after it."""
        keep = (1,) * len(op.stride)
        offsets = offsets_of_call(node, module, op, keep)
        if offsets is None:
            return replace(site, reason=own_forward(module))
        dense = replace(site, keep=keep, blur_stride=op.stride, offsets=shifted(offsets))
        placement = Placement(site.node if self.graph else site.name, "after")
        return replace(dense, placement=placement, reason="dense by its own forward, then blur")

    def _maxpool(self, op: Op, site: Site) -> Site:
        pool, self.next_max_pool = self.next_max_pool, "max"
        return self._pool(op, site, pool)

    def _avgpool(self, op: Op, site: Site) -> Site:
        if max(op.stride) > 2 and op.window and all(k >= s for k, s in zip(op.window.size, op.stride, strict=True)):
            return replace(site, reason="averages over its whole stride: a low-pass filter already")
        return self._pool(op, site, self.options.avg_pool)

    def _pool(self, op: Op, site: Site, pool: Pool) -> Site:
        placement = Placement(site.node if self.graph else site.name, "instead")
        dense = replace(site, keep=(1,) * len(op.stride), blur_stride=op.stride, window=op.window)
        return replace(dense, placement=placement, reason=_POOL_REASONS[pool], pool=pool)

    def _conv(self, node: fx.Node, op: Op, site: Site, reads_image: bool) -> Site:
        module = self.flow.module(node)
        if module is not None and self.flow.is_hidden(site.name):
            return replace(site, reason="code that cannot be traced may call it too")
        if module is not None and not self.flow.called_once(site.name) and not self.graph:
            return replace(site, reason="called several times, and each call needs its own blur")
        if module is not None and hasattr(module, "blur_before"):
            return replace(site, reason="has a blur before it already")
        if op.in_channels is not None and op.in_channels < self.options.min_channels:
            return replace(site, reason=f"reads {op.in_channels} channels (min_channels={self.options.min_channels})")
        if reads_image and (self.image is None or (op.in_channels or 1) <= self.image):
            return self._stem(node, op, site)
        return self._convs.place(node, op, replace(site, keep=(1,) * len(op.stride), blur_stride=op.stride))

    def _stem(self, node: fx.Node, op: Op, site: Site) -> Site:
        limit = self.options.stem_stride
        keep = tuple(min(stride, limit) for stride in op.stride)
        if keep == op.stride:
            return replace(site, reason=f"reads the image: keeps its stride of {max(keep)} (stem_stride={limit})")
        if any(stride % k for stride, k in zip(op.stride, keep, strict=True)):
            return replace(site, reason=f"reads the image: stem_stride={limit} does not divide its stride")
        cuts = op.window is not None and op.window.size == op.stride and not self.flow.follow(node).nonlinear_ends()
        if cuts and (self.attends or self.flow.has_attention):
            return replace(site, reason="cuts the image into a transformer's patches")
        blur_stride = tuple(stride // k for stride, k in zip(op.stride, keep, strict=True))
        return self._convs.place(node, op, replace(site, keep=keep, blur_stride=blur_stride))


def upsampled(
    module: nn.Module | None, op: Op, site: Site, options: Placing, blurred: bool, placement: Placement
) -> Site:
    """Place a dense blur right after an upsampling op; without a stride to take over, no nonlinearity comes first."""
    if not op.stride:
        return replace(site, reason="upsamples by a factor that is not an integer, or along an unknown number of axes")
    if not options.chooses(module, site.name):
        return replace(site, reason="excluded by where")
    if op.in_channels is not None and op.in_channels < options.min_channels:
        return replace(site, reason=f"reads {op.in_channels} channels (min_channels={options.min_channels})")
    if blurred:
        return replace(site, reason="has a blur after it already")
    reason = "upsamples: a dense blur removes the checkerboard"
    return replace(site, placement=placement, filter_size=options.upsample, reason=reason)


def _with_branches(sites: list[Site]) -> list[Site]:
    """Let the branches of a sum share one blur."""
    first: dict[Placement, str] = {}
    found = []
    for site in sites:
        if site.branch and site.placement is not None:
            name = first.setdefault(site.placement, site.name)
            site = replace(site, shares="" if name == site.name else name)
        found.append(site)
    return found


def _all_or_none(sites: list[Site]) -> list[Site]:
    """Treat all calls of a convolution (in a graph) or none, since they share its stride."""
    calls: dict[str, list[Site]] = defaultdict(list)
    for site in sites:
        calls[site.name].append(site)
    found = []
    for site in sites:
        others = calls[site.name]
        left = next((other for other in others if other.placement is None or other.keep != site.keep), None)
        if left is not None and site.placement is not None and site.kind == "conv":
            reason = f"called several times, and one call is skipped: {left.reason}"
            site = replace(site, keep=site.stride, blur_stride=1, placement=None, reason=reason)
        found.append(site)
    return found


_FUNCTION = "a function: modules alone cannot take its stride"
LOOSE = "its module is in a plain list or other container, where a blur would not be registered: use nn.ModuleList"
_POOL_REASONS: dict[Pool, str] = {
    "max": "dense maximum, then blur",
    "max2": "dense 2x2 maximum, then blur",
    "fit": "the blur replaces the average",
    "blur": "the blur alone",
    "registered": "replaced by the registered module",
}
