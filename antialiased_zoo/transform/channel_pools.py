"""Pools along the channels of a convolution's map, found by running what is between the two on a small map.

Other values of one channel reach at most half of the positions of the axis that such a pool strides along which other
values of all channels reach. Of the map's own axes they reach nearly as many; fewer, if channels are cropped or moved.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, fx
from torch.nn.modules.conv import _ConvNd

from .graph import Dataflow
from .node_runner import IMAGES, SIZES, NodeRunner
from .ops import Op
from .trials import trial

_CHANGED = (None, 0, 0.5, 1)  # all channels, and three of them one by one, since some may be dropped


def pools_channels(node: fx.Node, op: Op, flow: Dataflow) -> bool:
    """True if a pool strides along the channels of a convolution's map, as a maxout does.

    Args:
        node: The pool's node.
        op: The pool's `Op`.
        flow: The traced model.
    """
    nodes = _since_convolutions(node.all_input_nodes[:1], flow)
    convs = {n: module for n in nodes if isinstance(module := flow.module(n), _ConvNd)}
    runner = flow.runner()
    try:
        with trial():
            maps = {n: runner.drawn((IMAGES, c.out_channels, *SIZES[: len(c.kernel_size)])) for n, c in convs.items()}
            value = _ran(nodes, maps, runner)
            others = ({n: _changed(x, at, runner) for n, x in maps.items()} for at in _CHANGED)
            changed = [value != _ran(nodes, other, runner) for other in others]
            strided = [axis - len(op.stride) for axis, stride in enumerate(op.stride) if stride > 1]
            everywhere, *ones = ([_reached(change, axis) for axis in strided] for change in changed)
            return any(0 < 2 * one <= most for counts in ones for one, most in zip(counts, everywhere, strict=True))
    except Exception:  # a model's code may raise anything, and the values of inputs are not known
        return False


def _changed(x: Tensor, at: float | None, runner: NodeRunner) -> Tensor:
    """A map with other values in all channels, or in the one at a fraction of them."""
    channels = slice(None) if at is None else round(at * (x.shape[1] - 1))
    x = x.clone()
    x[:, channels] += runner.drawn(x.shape)[:, channels]  # no constant, which a softmax would ignore
    return x


def _since_convolutions(todo: list[fx.Node], flow: Dataflow) -> list[fx.Node]:
    """The nodes that some nodes depend on, back to the nearest convolutions, in the graph's order."""
    found: set[fx.Node] = set()
    while todo:
        node = todo.pop()
        if node not in found and not isinstance(flow.module(node), _ConvNd):
            todo += node.all_input_nodes
        found.add(node)
    return [node for node in flow.graph.nodes if node in found]


def _ran(nodes: Sequence[fx.Node], maps: dict[fx.Node, Tensor], runner: NodeRunner) -> Tensor:
    """The value of the last node; the model's inputs are taken for maps of the same size."""
    values = dict(maps)
    for node in nodes:
        if node.op == "placeholder":
            values[node] = next(iter(maps.values()))
        elif node not in maps:
            values[node] = runner.constant(node) if node.op == "get_attr" else runner.run(node, values.__getitem__)
    return values[nodes[-1]]


def _reached(changed: Tensor, axis: int) -> int:
    """The number of an axis's positions at which anything changed."""
    return int(changed.movedim(axis, 0).flatten(1).any(1).sum())
