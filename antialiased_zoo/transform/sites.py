"""Walks over a traced model and decides, op by op, where its blur goes, or why it gets none."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from torch import fx, nn

from ..layers import StrideOffsets
from .activations import inner_activations
from .following import End
from .graph import Dataflow
from .op_table import read_op
from .ops import KINDS, Op
from .options import Placing
from .own_code import rebuilds
from .plans import Placement, Pool, Site
from .stride_offsets import find_stride_offsets
from .upsampling_ops import UPSAMPLING, read_upsampling


class Walk:
    """One walk over a graph; each ``_conv``, ``_maxpool`` ... makes the `Site` of one node.

    Args:
        flow: The traced model, or a part of it.
        options: Of the plan.
        graph: Place blurs between the graph's nodes.
        image: The most channels of a map that counts as the image; None if the model's input does whatever it has.

    Attributes:
        past_image: Paths of the parts left whole that do not read the image.
    """

    def __init__(self, flow: Dataflow, options: Placing, graph: bool, image: int | None) -> None:
        self.flow = flow
        self.options = options
        self.graph = graph
        self.image = image
        self.past_image: set[str] = set()
        self.next_max_pool: Pool = options.stem_pool

    def sites(self) -> list[Site]:
        """Each op that strides once, in the order of the graph."""
        found: dict[str, Site] = {}
        past_stem: set[fx.Node] = set()
        levels: dict[fx.Node, int] = {}
        for node in self.flow.graph.nodes:
            levels[node] = max((levels[source] for source in node.all_input_nodes), default=0)
            op = read_op(node, self.flow.module(node))
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
                found.setdefault(site.node if self.graph else site.name, site)
        sites = _all_or_none(_with_branches(list(found.values())))
        return sites if self.graph else [self._kept(site) for site in sites]

    def _kept(self, site: Site) -> Site:
        """Name the nearest module that is called and holds both the op and its blur."""
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
            return replace(site, reason=op.left or "returns its blurred form already")
        if module is None and op.kind == "conv" and self._is_filter(node):
            return replace(site, reason="its weight is no parameter: a fixed filter, left as it was made")
        if op.kind in KINDS and op.kind not in self.options.kinds:
            return replace(site, reason=f"left out by kinds={tuple(self.options.kinds)}")
        if self.options.where is not None and (module is None or not self.options.where(module, name)):
            return replace(site, reason="left out by where")
        if module is None and not self.graph:
            return replace(site, reason=LOOSE if self.flow.is_loose(node) else _FUNCTION)
        if op.kind == "conv":
            return self._conv(node, op, site, reads_image)
        if op.kind not in KINDS:
            return self._pool(op, site, "registered")
        if module is not None and not _is_plain(module):
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
        return self._pool(op, site, self.options.avg_pool)

    def _pool(self, op: Op, site: Site, pool: Pool) -> Site:
        placement = Placement(site.node if self.graph else site.name, "instead")
        dense = replace(site, keep=(1,) * len(op.stride), blur_stride=op.stride, window=op.window)
        return replace(dense, placement=placement, reason=_POOL_REASONS[pool], pool=pool)

    def _conv(self, node: fx.Node, op: Op, site: Site, reads_image: bool) -> Site:
        module = self.flow.module(node)
        if module is not None and self.flow.is_hidden(site.name):
            return replace(site, reason="code that cannot be traced may call it, too")
        if module is not None and not self.flow.called_once(site.name) and not self.graph:
            return replace(site, reason="called at several places, which need blurs of their own")
        if module is not None and hasattr(module, "blur_before"):
            return replace(site, reason="has a blur before it already")
        if op.in_channels is not None and op.in_channels < self.options.min_channels:
            return replace(site, reason=f"reads {op.in_channels} channels (min_channels={self.options.min_channels})")
        if reads_image and (self.image is None or (op.in_channels or 1) <= self.image):
            return self._stem(node, op, site)
        return self._blurred(node, op, replace(site, keep=(1,) * len(op.stride), blur_stride=op.stride))

    def _stem(self, node: fx.Node, op: Op, site: Site) -> Site:
        limit = self.options.stem_stride
        keep = tuple(min(stride, limit) for stride in op.stride)
        if keep == op.stride:
            return replace(site, reason=f"reads the image: keeps its stride of {max(keep)} (stem_stride={limit})")
        if any(stride % k for stride, k in zip(op.stride, keep, strict=True)):
            return replace(site, reason=f"reads the image: stem_stride={limit} does not divide its stride")
        cuts = op.window is not None and op.window.size == op.stride and not self.flow.follow(node).nonlinear_ends()
        if cuts and self.flow.has_attention:
            return replace(site, reason="cuts the image into a transformer's patches")
        blur_stride = tuple(stride // k for stride, k in zip(op.stride, keep, strict=True))
        return self._blurred(node, op, replace(site, keep=keep, blur_stride=blur_stride))

    def _blurred(self, node: fx.Node, op: Op, site: Site) -> Site:
        """Choose the place; ``site`` says already how the stride is shared."""
        here = site.node if self.graph else site.name
        before = bool(node.args) or self.graph  # a hook is given no keyword arguments
        if self.options.placement == "before_conv":
            if not before:
                return self._skipped(op, site, "its input is given by keyword, which a hook cannot blur")
            dense = replace(site, keep=op.stride, blur_stride=1, channels=op.in_channels)
            return replace(dense, placement=Placement(here, "before"), reason="a dense blur first (placement)")
        module = self.flow.module(node)
        if module is not None and not _is_plain(module):
            offsets = find_stride_offsets(module, op, site.keep)
            if offsets is None:
                return self._skipped(op, site, _own_forward(module))
            site = replace(site, offsets=_shifted(offsets))
        sources = [node]
        ends = self.flow.follow(*sources).nonlinear_ends()
        if not ends and not site.offsets:
            sources = self._branches(node, op)
            ends = self.flow.follow(*sources).nonlinear_ends() if len(sources) > 1 else []
        if ends:
            return self._after(ends, sources, op, site)
        if len(sources) > 1 and (found := self._first_place(self.flow.follow(*sources).affine_ends())):
            reason = f"linear: after the sum of {len(sources)} branches"
            return replace(site, placement=found[0], reason=reason, branch=True)
        if not op.is_pointwise or site.offsets or not before:
            return replace(site, placement=Placement(self._rebuilt(node) or here, "after"), reason=self._linear(node))
        if self.options.shortcut == "stride":
            return self._skipped(op, site, 'linear 1x1: left strided (shortcut="stride")')
        reason = "linear 1x1: commutes with the blur, which is cheaper first"
        around = None if self.graph else next(filter(self._rebuilds, self.flow.modules_taking(node)), None)
        return replace(site, channels=op.in_channels, placement=Placement(around or here, "before"), reason=reason)

    def _rebuilt(self, node: fx.Node) -> str | None:
        """The outermost module around a convolution that can be made anew as one convolution, and returns its value."""
        if self.graph:
            return None
        ends = self.flow.follow(node).affine_ends()
        paths = [path for end in ends for path in self.flow.modules_returning(end.node)]
        around = (path for path in paths[::-1] if str(node.target).startswith(f"{path}."))
        return next(filter(self._rebuilds, around), None)

    def _rebuilds(self, path: str) -> bool:
        return rebuilds(self.flow.model.get_submodule(path))

    def _after(self, ends: list[End], sources: list[fx.Node], op: Op, site: Site) -> Site:
        """A blur after a nonlinearity, which may be that of several branches' sum."""
        found = self._first_place(ends)
        if found is None:
            return self._skipped(op, site, _NO_PLACE)
        placement, end = found
        if end.channels != site.channels:
            site = replace(site, channels=None)
        if not self.graph:
            site = replace(site, norms=self.flow.norms_before(end.node, sources))
        if len(sources) == 1:
            return replace(site, placement=placement, reason="after the nonlinearity")
        reason = f"after the nonlinearity behind the sum of {len(sources)} branches"
        return replace(site, placement=placement, reason=reason, branch=True)

    def _branches(self, node: fx.Node, op: Op) -> list[fx.Node]:
        """Convolutions beside this one that read the same map with the same stride, and have no nonlinearity alone."""
        source = node.all_input_nodes[0]
        found = []
        for user in source.users:
            module = self.flow.module(user)
            other = read_op(user, module)
            plain = module is None or (_is_plain(module) and self.flow.called_once(str(user.target)))
            alike = plain and other is not None and (other.kind, other.stride) == ("conv", op.stride)
            if alike and self._is_chosen(user) and not self.flow.follow(user).nonlinear_ends():
                found.append(user)
        return found if node in found else [node]

    def _is_chosen(self, node: fx.Node) -> bool:
        """True if the options do not leave a convolution out."""
        module, op = self.flow.module(node), read_op(node, self.flow.module(node))
        if module is None:
            return self.graph and self.options.where is None
        few = op is not None and op.in_channels is not None and op.in_channels < self.options.min_channels
        return not few and (self.options.where is None or bool(self.options.where(module, str(node.target))))

    def _linear(self, node: fx.Node) -> str:
        """Why a blur comes right after a convolution: what follows, as far as it is known."""
        if any(map(self.flow.is_map_norm, node.users)):
            return "before a norm of the map's own statistics, which a dense map would change"
        reader = self.flow.first_unfollowed(node)
        if reader is None or self.flow.is_linear_reader(reader):
            return "linear: no nonlinearity to wait for"
        name = self.flow.describe(reader)
        if name in ("add", "iadd"):
            return "linear: added to another path before any nonlinearity"
        return f"right after the convolution: what follows is not followed through {name}"

    def _skipped(self, op: Op, site: Site, reason: str) -> Site:
        return replace(site, keep=op.stride, blur_stride=1, reason=reason)

    def _first_place(self, ends: list[End]) -> tuple[Placement, End] | None:
        """The first place that there is for a blur after one of some nodes."""
        places = ((self._place_after(end.node), end) for end in ends)
        return next(((place, end) for place, end in places if place is not None), None)

    def _place_after(self, node: fx.Node) -> Placement | None:
        """A module whose output is the node's value, or else the one module that reads it."""
        if self.graph:
            return Placement(node.name, "after")
        module = self.flow.module(node)
        rebound = node in self.flow.rebound
        if module is not None and not rebound and self.flow.called_once(str(node.target)):
            inner = inner_activations(module)
            path = f"{node.target}.{inner[0]}" if len(inner) == 1 else str(node.target)
            if len(self.flow.names[path]) == 1:  # a norm's own activation outlives the norm's conversion
                return Placement(path, "after")
            return Placement(str(node.target), "after")
        for path in () if rebound else self.flow.modules_returning(node):
            return Placement(path, "after")
        if len(node.users) == 1:
            (user,) = node.users
            if user.op == "call_module" and self.flow.called_once(str(user.target)) and user.args[:1] == (node,):
                return Placement(str(user.target), "before")
        return None


def upsampled(
    module: nn.Module | None, op: Op, site: Site, options: Placing, blurred: bool, placement: Placement
) -> Site:
    """A dense blur right after an op that upsamples: with no stride to take, it need not wait for a nonlinearity."""
    if not op.stride:
        return replace(site, reason="upsamples by a factor that is not whole, or along axes whose number is not known")
    if options.where is not None and (module is None or not options.where(module, site.name)):
        return replace(site, reason="left out by where")
    if op.in_channels is not None and op.in_channels < options.min_channels:
        return replace(site, reason=f"reads {op.in_channels} channels (min_channels={options.min_channels})")
    if blurred:
        return replace(site, reason="has a blur after it already")
    reason = "upsamples: a dense blur removes the checkerboard"
    return replace(site, placement=placement, filter_size=options.upsample, reason=reason)


def _with_branches(sites: list[Site]) -> list[Site]:
    """Let one blur serve the branches of one sum: all become dense, or none."""
    first: dict[Placement, str] = {}
    found = []
    for site in sites:
        if site.branch and site.placement is not None:
            name = first.setdefault(site.placement, site.name)
            site = replace(site, shares="" if name == site.name else name)
        found.append(site)
    return found


def _all_or_none(sites: list[Site]) -> list[Site]:
    """A convolution called at several places (in a graph) has one stride: all of them get a blur, or none does."""
    calls: dict[str, list[Site]] = defaultdict(list)
    for site in sites:
        calls[site.name].append(site)
    found = []
    for site in sites:
        others = calls[site.name]
        left = next((other for other in others if other.placement is None or other.keep != site.keep), None)
        if left is not None and site.placement is not None and site.kind == "conv":
            reason = f"called at several places, one of which is left: {left.reason}"
            site = replace(site, keep=site.stride, blur_stride=1, placement=None, reason=reason)
        found.append(site)
    return found


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
_FUNCTION = "a function: modules alone cannot take its stride"
LOOSE = "a plain list or the like holds its module, where a blur would not move along: nn.ModuleList lets it be treated"
_NO_PLACE = "modules alone cannot hold a blur between the nonlinearity and its readers"
_POOL_REASONS: dict[Pool, str] = {
    "max": "dense maximum, then blur",
    "max2": "dense 2x2 maximum, then blur",
    "fit": "the blur averages in its place",
    "blur": "the blur alone",
    "registered": "what was registered takes its place",
}
