"""Which axis of a convolution's map a pool strides along, followed through the ops that move axes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from .activations import function_name, is_activation, is_pointwise
from .op_readers import given_numbers
from .ops import Op
from .reorderings import reordered

_SAME = ("contiguous", "clone", "relu", "relu6", "gelu", "silu", "leaky_relu", "elu", "sigmoid", "tanh", "hardswish")
_VIEWS = ("view", "reshape")
_REDUCTIONS = ("mean", "sum", "amax", "amin")
_CHANNELS = 1

# For each axis of a value, the axis of the nearest convolution's map that it is; None for another axis.
Axes = list[int | None]
Modules = Callable[[fx.Node], nn.Module | None]


def pools_channels(node: fx.Node, op: Op, module: Modules) -> bool:
    """True if a pool strides along the channels of a convolution's map, as a maxout does.

    Args:
        node: The pool's node.
        op: The pool's `Op`.
        module: Returns the module that a node calls, or None.
    """
    axes = _axes(node.all_input_nodes[0], module) if node.all_input_nodes else []
    spatial = axes[-len(op.stride) :] if op.stride else []
    return any(stride > 1 and axis == _CHANNELS for stride, axis in zip(op.stride, spatial, strict=False))


def _axes(node: fx.Node, module: Modules) -> Axes:
    """The axes of a node's value; empty if they are not known."""
    passed: list[fx.Node] = []
    while not isinstance(called := module(node), _ConvNd):
        moves = called is None or is_activation(called) or is_pointwise(called)
        if not moves or not node.args or not isinstance(node.args[0], fx.Node):
            return []
        passed.append(node)
        node = node.args[0]
    axes: Axes = [*range(2 + len(called.kernel_size))]
    for function in (node for node in reversed(passed) if module(node) is None):
        axes = _moved(function, axes, module) if axes else []
    return axes


def _moved(node: fx.Node, axes: Axes, module: Modules) -> Axes:
    """The axes of a function's value, told from those of its input."""
    name, given = function_name(node.target), _numbers(node)
    if name in _SAME:
        return axes
    if node.target is operator.getitem and isinstance(node.args[1], tuple):
        return _indexed(node.args[1], axes)
    if name in _VIEWS:
        return _viewed([_axis_of_size(size, module) for size in given_numbers(node)], axes)
    given = given[:1] if name == "select" else given  # the other is the position
    rank = len(axes) + (name == "unsqueeze")
    if not given or not all(-rank <= axis < rank for axis in given):
        return []
    one, *others = dims = [axis % rank for axis in given]
    if name == "unsqueeze":
        return [*axes[:one], None, *axes[one:]]
    if name == "flatten":
        return [*axes[:one], None, *axes[(others[0] if others else rank - 1) + 1 :]]
    if name not in ("squeeze", "select", *_REDUCTIONS):
        return reordered(name, given, axes)
    if node.kwargs.get("keepdim"):
        return [None if axis in dims else of for axis, of in enumerate(axes)]
    return [of for axis, of in enumerate(axes) if axis not in dims]


def _indexed(index: Sequence[Any], axes: Axes) -> Axes:
    """`_moved` for an indexing expression of slices, integers, new axes and an ellipsis."""
    if not all(part is None or type(part) in (slice, int, type(...)) for part in index):
        return []
    at = index.index(...) if ... in index else len(index)
    taken = sum(type(part) in (slice, int) for part in index)
    if taken > len(axes):  # not a batch of maps
        return []
    whole = [slice(None)] * (len(axes) - taken)
    left = iter(axes)
    found = [(part, None if part is None else next(left)) for part in (*index[:at], *whole, *index[at + 1 :])]
    return [axis for part, axis in found if type(part) is not int]


def _viewed(sizes: Sequence[int | None], axes: Axes) -> Axes:
    """`_moved` for a view to sizes of these axes: it keeps the first and the last axes whose sizes it is given."""
    first = _same(sizes, axes)
    last = _same(sizes[first:][::-1], axes[first:][::-1])
    return [*sizes[:first], *[None] * (len(sizes) - first - last), *sizes[len(sizes) - last :]]


def _same(sizes: Sequence[int | None], axes: Axes) -> int:
    """How many of the first sizes are those of the first axes."""
    return len([*takewhile(lambda pair: pair[0] is not None and pair[0] == pair[1], zip(sizes, axes, strict=False))])


def _axis_of_size(value: Any, module: Modules) -> int | None:
    """The axis of a convolution's map whose size a node reads; None if that is not known."""
    shape = value.args[0] if getattr(value, "target", None) is operator.getitem else value
    if not isinstance(shape, fx.Node) or not shape.args or function_name(shape.target) not in ("getattr", "size"):
        return None
    (source, *_), axis = shape.args, value.args[-1]
    if not isinstance(source, fx.Node) or type(axis) is not int:
        return None
    axes = _axes(source, module)
    if not axes:  # batches keep their size
        return 0 if axis == 0 else None
    return axes[axis] if -len(axes) <= axis < len(axes) else None


def _numbers(node: fx.Node) -> Sequence[int]:
    """The integers that a call is given after its map."""
    given: Any = (*node.args[1:], *(value for key, value in node.kwargs.items() if key != "keepdim"))
    given = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    return given if all(type(number) is int for number in given) else ()
