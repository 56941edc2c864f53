"""Chooses where the blur of a strided convolution goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import fx, nn

from .activations import NORMS, inner_activations
from .following import End
from .graph import Dataflow
from .ops import Op
from .options import Placing
from .own_code import can_fuse
from .plans import Placement, Site
from .stride_offsets import is_linear, is_plain, offsets_of_call, own_forward, returns_activation, shifted


@dataclass(frozen=True)
class ConvPlacement:
    """Chooses where the blurs of strided convolutions go.

    Attributes:
        flow: The traced model, or a part of it.
        options: The plan's options.
        graph: True to place blurs between the graph's nodes.
    """

    flow: Dataflow
    options: Placing
    graph: bool

    def place(self, node: fx.Node, op: Op, site: Site) -> Site:
        """Place the blur of a convolution whose ``site`` already says which stride it keeps."""
        here = site.node if self.graph else site.name
        before = bool(node.args) or self.graph  # pre-hooks see no keyword arguments
        if self.options.placement == "before_conv":
            if not before:
                return self._skipped(op, site, "its input is given by keyword, which a hook cannot blur")
            dense = replace(site, keep=op.stride, blur_stride=1, channels=op.in_channels)
            return replace(
                dense, placement=Placement(here, "before"), reason='a dense blur before it (placement="before_conv")'
            )
        module = self.flow.module(node)
        if module is not None and not is_plain(module):
            offsets = offsets_of_call(node, module, op, site.keep)
            if offsets is None:
                return self._skipped(op, site, own_forward(module))
            site = replace(site, offsets=shifted(offsets))
        sources = [node]
        ends = self.flow.follow(*sources).nonlinear_ends()
        if not ends and not site.offsets:
            sources = self._branches(node, op, site.keep)
            ends = self.flow.follow(*sources).nonlinear_ends() if len(sources) > 1 else []
        if ends:
            return self._after(ends, sources, op, site)
        if len(sources) > 1 and (found := self._first_placement(self.flow.follow(*sources).affine_ends())):
            reason = f"linear: after the sum of {len(sources)} branches"
            return replace(site, placement=found[0], reason=reason, branch=True)
        linear = is_linear(node, module, op)
        if not op.is_pointwise or site.offsets or not before or not linear:
            reason = self._linear_reason(node) if linear else "after the nonlinearity in its own forward"
            return replace(site, placement=Placement(self._fusible_module(node) or here, "after"), reason=reason)
        if self.options.shortcut == "stride":
            return self._skipped(op, site, 'linear 1x1: left strided (shortcut="stride")')
        reason = "linear 1x1: commutes with the blur, which is cheaper first"
        around = None if self.graph else next(filter(self._can_fuse, self.flow.modules_taking(node)), None)
        return replace(site, channels=op.in_channels, placement=Placement(around or here, "before"), reason=reason)

    def _fusible_module(self, node: fx.Node) -> str | None:
        """The outermost module that returns a convolution's value and can be fused into one convolution, or None."""
        if self.graph:
            return None
        ends = self.flow.follow(node).affine_ends()
        paths = [path for end in ends for path in self.flow.modules_returning(end.node)]
        around = (path for path in paths[::-1] if str(node.target).startswith(f"{path}."))
        return next(filter(self._can_fuse, around), None)

    def _can_fuse(self, path: str) -> bool:
        return can_fuse(self.flow.model.get_submodule(path))

    def _after(self, ends: list[End], sources: list[fx.Node], op: Op, site: Site) -> Site:
        """Place a blur after a nonlinearity, which may follow the sum of several branches."""
        found = self._first_placement(ends)
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

    def _branches(self, node: fx.Node, op: Op, keep: Sequence[int]) -> list[fx.Node]:
        """This convolution and others with its input and stride that no nonlinearity of their own follows."""
        source = node.all_input_nodes[0]
        found = [user for user in source.users if self._is_alike(user, op, keep)]
        found = [user for user in found if self._is_chosen(user) and not self.flow.follow(user).nonlinear_ends()]
        return found if node in found else [node]

    def _is_alike(self, node: fx.Node, op: Op, keep: Sequence[int]) -> bool:
        """True for a convolution of the same stride that keeps the same positions of its dense map."""
        module, other = self.flow.module(node), self.flow.op(node)
        if other is None or (other.kind, other.stride) != ("conv", op.stride):
            return False
        if module is None or not self.flow.called_once(str(node.target)):
            return module is None
        offsets = None if is_plain(module) else offsets_of_call(node, module, other, keep)
        return is_plain(module) or (offsets is not None and shifted(offsets) is None)

    def _is_chosen(self, node: fx.Node) -> bool:
        """True if the options do not exclude a convolution."""
        module, op = self.flow.module(node), self.flow.op(node)
        if op is None or (module is None and not self.graph):
            return False
        few = op.in_channels is not None and op.in_channels < self.options.min_channels
        return not few and self.options.chooses(module, str(node.target), op.strided)

    def _linear_reason(self, node: fx.Node) -> str:
        """Why a blur goes right after a convolution."""
        if any(map(self.flow.is_map_norm, node.users)):
            return "before a norm with per-map statistics, which a dense map would change"
        reader = next((user for user in self.flow.unfollowed(node) if not self.flow.is_linear_reader(user)), None)
        if reader is None:
            return "linear: no nonlinearity follows"
        name = self.flow.describe(reader)
        if name in ("add", "iadd"):
            return "linear: added to another path before any nonlinearity"
        found = self.flow.follow(node)
        if found.is_split and reader is found.pending:
            return f"right after the convolution: {name} is not the only op that reads the map"
        return f"right after the convolution: the dataflow cannot be followed through {name}"

    def _skipped(self, op: Op, site: Site, reason: str) -> Site:
        return replace(site, keep=op.stride, blur_stride=1, reason=reason)

    def _first_placement(self, ends: list[End]) -> tuple[Placement, End] | None:
        """The first possible placement of a blur after one of some ends."""
        found = ((self._placement_after(end), end) for end in ends)
        return next(((placement, end) for placement, end in found if placement is not None), None)

    def _placement_after(self, end: End) -> Placement | None:
        """After a module whose output is the node's value, or else before the only module that reads it."""
        node = end.node
        if self.graph:
            return Placement(node.name, "after")
        module = self.flow.module(node)
        rebound = node in self.flow.rebound
        if module is not None and not rebound and self.flow.called_once(str(node.target)):
            return Placement(f"{node.target}{self._last_activation(module, node, end.channels)}", "after")
        for path in () if rebound else self.flow.modules_returning(node):
            return Placement(path, "after")
        if len(node.users) == 1:
            (user,) = node.users
            if user.op == "call_module" and self.flow.called_once(str(user.target)) and user.args[:1] == (node,):
                return Placement(str(user.target), "before")
        return None

    def _last_activation(self, module: nn.Module, node: fx.Node, channels: int) -> str:
        """The path in a norm to the activation that it ends with, which survives the norm's conversion; else ""."""
        inner = inner_activations(module) if isinstance(module, NORMS) else []
        if len(inner) != 1 or len(self.flow.names[f"{node.target}.{inner[0]}"]) != 1:
            return ""
        shape = (2, channels, *[4] * (self.flow.ndim_before(node) or 2))
        return f".{inner[0]}" if returns_activation(module, inner[0], shape) else ""


_NO_PLACE = "modules alone cannot hold a blur between the nonlinearity and its readers"
