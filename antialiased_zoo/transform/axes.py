"""Which axis of a convolution's map a pool strides along, read back through the ops that move axes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from .activations import function_name, is_activation, is_pointwise
from .op_readers import given_numbers
from .ops import Op

_SWAPS = ("transpose", "swapaxes", "swapdims")
_SAME = ("contiguous", "clone", "relu", "relu6", "gelu", "silu", "leaky_relu", "elu", "sigmoid", "tanh", "hardswish")
_VIEWS = ("view", "reshape")
_REDUCTIONS = ("mean", "sum", "amax", "amin")
_CHANNELS = 1


def pools_channels(node: fx.Node, op: Op, module: Callable[[fx.Node], nn.Module | None]) -> bool:
    """True if a pool strides along the channels of a convolution's map, as a maxout does.

    Args:
        node: The pool's node.
        op: The pool's `Op`.
        module: Returns the module that a node calls, or None.
    """
    rank = len(op.stride) + 2
    source = node.all_input_nodes[0] if node.all_input_nodes else None
    return any(
        stride > 1 and _axis_of_map(source, 2 + axis, rank, module) == _CHANNELS
        for axis, stride in enumerate(op.stride)
    )


def _axis_of_map(
    node: fx.Node | None, axis: int | None, rank: int, module: Callable[[fx.Node], nn.Module | None]
) -> int | None:
    """The axis of the nearest convolution's map that became an axis of a node's value; None if that is not known."""
    while node is not None and axis is not None:
        called = module(node)
        if isinstance(called, _ConvNd):
            return axis
        if called is None:
            axis, rank = _before(node, axis, rank)
        elif not (is_activation(called) or is_pointwise(called)):
            return None
        node = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
    return None


def _before(node: fx.Node, axis: int, rank: int) -> tuple[int | None, int]:
    """The axis of a function's input that became an axis of its value, and the input's rank; None if unknown."""
    name, given = function_name(node.target), _numbers(node)
    if name in _SAME:
        return axis, rank
    if name in _SWAPS and len(given) == 2:
        one, other = (dim % rank for dim in given)
        return {one: other, other: one}.get(axis, axis), rank
    if name == "permute" and len(given) == rank:
        return given[axis] % rank, rank
    if name == "unsqueeze" and len(given) == 1:
        new = given[0] % rank
        return None if axis == new else axis - (axis > new), rank - 1
    if name in ("squeeze", "select") and given and given[0] >= 0 and (name == "select" or len(given) == 1):
        return axis + (axis >= given[0]), rank + 1
    if node.target is operator.getitem and isinstance(node.args[1], tuple):
        return _before_index(node.args[1], axis, rank)
    if name in _VIEWS and all(_is_size(size, index) for index, size in enumerate(given_numbers(node)[: axis + 1])):
        return axis, rank  # as for a flattened map
    if name in ("flatten", *_REDUCTIONS) and given and axis < min(given):
        return axis, rank  # which is not the rank any more: from here on, only axes counted from the front are read
    return None, rank


def _before_index(index: Sequence[Any], axis: int, rank: int) -> tuple[int | None, int]:
    """`_before` for an indexing expression of slices, integers and new axes."""
    if not all(part is None or isinstance(part, (slice, int)) for part in index):
        return None, rank
    taken = [part for part in index if part is not None]
    kept = iter([at for at, part in enumerate(taken) if isinstance(part, slice)])
    axes = [None if part is None else next(kept) for part in index if not isinstance(part, int)]
    axes += range(len(taken), len(taken) + rank)
    return axes[axis], rank + len(taken) - len(index) + sum(isinstance(part, int) for part in index)


def _is_size(value: Any, axis: int) -> bool:
    """True for a node that reads a map's size along an axis."""
    if not isinstance(value, fx.Node):
        return False
    if value.target is operator.getitem:
        sizes = function_name(getattr(value.args[0], "target", "")) in ("getattr", "size")
        return sizes and value.args[1:] == (axis,)
    return function_name(value.target) == "size" and value.args[1:] == (axis,)


def _numbers(node: fx.Node) -> Sequence[int]:
    """The integers that a call is given after its map."""
    given: Any = (*node.args[1:], *(value for key, value in node.kwargs.items() if key != "keepdim"))
    given = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    return given if all(type(number) is int for number in given) else ()
