"""Finds the pointwise nodes that follow a convolution, by running them on small random maps.

Function names do not say what a network computes: an activation may be one function or ten, after a
permutation of axes or a split of channels. So the nodes after a convolution run on a random map and
on every other position of it; if they are pointwise, both give the same values at those positions.
The model itself is not run, and its weights are not read.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx

from .activations import function_name
from .node_runner import IMAGES, SIZES, NodeRunner
from .tracing import read_by_hooks
from .trials import trial

#: What the nodes between two ends compute at each position: an affine map, a norm over the channels,
#: or anything else.
Role = Literal["affine", "norm", "nonlinear"]

_GUESSED_CHANNELS = 8
_MOST_NODES = 48  # in one nonlinearity
# These mix channels, as the next convolution does: a blur goes before them.
_READERS = ("addmm", "baddbmm", "bilinear", "bmm", "conv", "linear", "matmul", "mm", "tensordot")


@dataclass(frozen=True)
class End:
    """A node that all data from the sources passes through: a blur after it reaches every reader.

    Attributes:
        node: The node; its value is a map of the sources' spatial size.
        role: What the nodes between the previous end and this one compute.
        channels: Channels of the map.
    """

    node: fx.Node
    role: Role
    channels: int


class Following:
    """The pointwise nodes that follow one convolution, or several whose results are added.

    Args:
        sources: The convolutions' nodes, in the graph's order.
        nodes: The graph's nodes.
        ndim: Number of spatial axes of the maps.
        channels: Channels of the maps; None if unknown.
        runner: Runs the nodes.

    Attributes:
        ends: The nodes that all data from the sources passes through, in order.
        members: The nodes that were followed, including the sources.
        pending: The first node that was followed after the last end.
        is_split: Whether that node is pointwise, but others read the map too.
    """

    def __init__(
        self,
        sources: Sequence[fx.Node],
        nodes: Sequence[fx.Node],
        ndim: int,
        channels: int | None,
        runner: NodeRunner,
    ) -> None:
        self.sources = sources
        self.ends: list[End] = []
        self.members: set[fx.Node] = set()
        self.pending: fx.Node | None = None
        self.channels = channels or _GUESSED_CHANNELS
        self._size = SIZES[:ndim]
        self._runner = runner
        self._values: dict[fx.Node, tuple[Any, Any]] = {}  # for the map, and for every other position of it
        with trial():
            self._follow(nodes)

    def nonlinear_ends(self) -> list[End]:
        """The ends of the nonlinearities, last nonlinearity first, each followed by the affine ends after it."""
        groups: list[list[End]] = []
        for end in self.ends:
            if end.role == "nonlinear":
                groups.append([end])
            elif end.role == "affine" and groups:
                groups[-1].append(end)
        return [end for group in reversed(groups) for end in group]

    def affine_ends(self) -> list[End]:
        """The ends before any nonlinearity or norm, last one first."""
        found: list[End] = []
        for end in self.ends:
            if end.role != "affine":
                break
            found.insert(0, end)
        return found

    def _follow(self, nodes: Sequence[fx.Node]) -> None:
        order = {node: index for index, node in enumerate(nodes)}
        start, since, last_use = list(self.sources), list[fx.Node](), -1
        for node in nodes[order[self.sources[0]] :]:
            if node in self.sources:
                self._values[node] = self._random_map()
            elif self._values.keys().isdisjoint(node.all_input_nodes):
                continue
            else:
                values = self._tried(node)
                if values is None and self.members.isdisjoint(node.all_input_nodes):
                    continue  # it reads only a size
                if values is None or len(since) == _MOST_NODES or (_same(*values) and self._asks_for_size(node)):
                    break
                self._values[node] = values
                since.append(node)
            if _same(*self._values[node]):  # independent of the map: the batch size, a dtype
                continue
            self.members.add(node)
            meets = self.members.issuperset(self.sources) and last_use <= order[node]
            last_use = max([last_use, *(order[user] for user in node.users)])
            if meets and node not in self.sources and self._is_pointwise(*self._values[node]):
                self.ends.append(End(node, self._role(start, since), self._values[node][0].shape[1]))
                start, since = [node], []
        self.pending = next((node for node in since if node in self.members), None)
        self.is_split: bool = self.pending is not None and self._is_pointwise(*self._values[self.pending])

    def _tried(self, node: fx.Node) -> tuple[Any, Any] | None:
        """A node's values for the map and for every other position of it; None if following stops at the node."""
        name = function_name(node.target)
        mixes = node.op != "call_module" and (name.startswith(_READERS) or (name == "einsum" and _sums(node)))
        if node.op == "output" or mixes or node.target is read_by_hooks:
            return None
        try:
            dense = self._runner.run(node, lambda n: self._value(n)[0])
            return dense, self._runner.run(node, lambda n: self._value(n)[1])
        except Exception:  # a model's code may raise anything
            return None

    def _asks_for_size(self, node: fx.Node) -> bool:
        """True if a node computes something from the map's size (a comparison, say), which a dense map would change."""
        parts = (operator.getitem, len)  # of a shape: the channels, the number of axes
        sizes = [n for n in node.all_input_nodes if n in self.members and not isinstance(self._values[n][0], Tensor)]
        return any(isinstance(self._values[n][0], (int, float)) or node.target not in parts for n in sizes)

    def _value(self, node: fx.Node) -> tuple[Any, Any]:
        if node in self._values:
            return self._values[node]
        constant = self._runner.constant(node)
        return constant, constant

    def _random_map(self) -> tuple[Tensor, Tensor]:
        x = self._runner.random((IMAGES, self.channels, *self._size))
        return x, self._every_other(x)

    def _every_other(self, x: Tensor) -> Tensor:
        places = (slice(None), slice(None), *(slice(None, None, 2) for _ in self._size))
        return x[places]

    def _is_pointwise(self, dense: Any, sparse: Any) -> bool:
        if not isinstance(dense, Tensor) or not dense.is_floating_point():
            return False
        if dense.dim() != 2 + len(self._size) or (dense.shape[0], *dense.shape[2:]) != (IMAGES, *self._size):
            return False
        kept = self._every_other(dense)
        return kept.shape == sparse.shape and _near(kept, sparse, 1e-3)

    def _role(self, start: Sequence[fx.Node], between: Sequence[fx.Node]) -> Role:
        """What the nodes from ``start`` to the last of ``between`` compute, judged by values at chosen points."""
        a, b = ({node: self._runner.random(self._values[node][0].shape) for node in start} for _ in range(2))
        inputs = (a, b, *_blends(a, b, ((0.5, 0.5), (8, 0), (1, 0.05))))
        at_a, at_b, at_middle, at_larger, nearby = (self._ran(given, between) for given in inputs)
        if _near(at_a + at_b, 2 * at_middle, 1e-2, at_a.abs() + at_b.abs()):
            return "affine"
        return "norm" if _near(at_larger, at_a, 1e-2) and not _near(nearby, at_a, 1e-3) else "nonlinear"

    def _ran(self, start: dict[fx.Node, Any], between: Sequence[fx.Node]) -> Tensor:
        values = dict(start)
        for node in between:
            if node not in values:
                values[node] = self._runner.run(node, lambda n: values[n] if n in values else self._value(n)[0])
        result: Tensor = values[between[-1]]
        return result.float()


def _blends(
    a: dict[fx.Node, Tensor], b: dict[fx.Node, Tensor], weights: Sequence[tuple[float, float]]
) -> Iterator[dict[fx.Node, Tensor]]:
    for one, other in weights:
        yield {node: one * a[node] + other * b[node] for node in a}


def _sums(node: fx.Node) -> bool:
    """True unless every axis of the einsum is in its result, so that it only multiplies."""
    equation = node.args[0] if node.args else ""
    taken, arrow, given = equation.partition("->") if isinstance(equation, str) else ("", "", "")
    return not arrow or not set(taken) - set(", ") <= set(given)


def _same(one: Any, other: Any) -> bool:
    """True for equal values, which do not depend on the map; what cannot be compared counts as different."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(map(_same, one, other))
    try:  # a dataclass, a mapping or an array may raise, or give another tensor
        return (one == other) is True
    except Exception:
        return False


def _near(one: Tensor, other: Tensor, tolerance: float, size: Tensor | None = None) -> bool:
    """True if two tensors differ by at most ``tolerance`` times ``size``, by default their largest magnitude."""
    one, other = one.float(), other.float()
    finite = one.isfinite()
    if not torch.equal(finite, other.isfinite()):
        return False
    one, other = one[finite], other[finite]
    largest = torch.cat([one.abs(), other.abs(), one.new_zeros(1)]).max()
    allowed = tolerance * largest if size is None else tolerance * size[finite] + 1e-5 * largest
    return bool(((one - other).abs() <= allowed).all())
