"""What convolutions and pools with code of their own compute, found by running copies of them on small random maps."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..layers import StrideOffsets, Window
from .ops import Op
from .trials import drawn_copy, run_apart, trial


def offsets_of_call(node: fx.Node, module: nn.Module, op: Op, keep: Sequence[int]) -> StrideOffsets | None:
    """`find_stride_offsets` for a call of an op; None if the model computes other arguments of it than the map."""
    args, kwargs = other_arguments(node)
    computed: list[fx.Node] = []
    fx.map_arg((args, kwargs), computed.append)
    return None if computed else find_stride_offsets(module, op, keep, args, kwargs)


def other_arguments(node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call after the first."""
    return node.args[1:], dict(list(node.kwargs.items())[not node.args :])


def find_stride_offsets(
    module: nn.Module,
    op: Op,
    keep: Sequence[int],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] = MappingProxyType({}),
) -> StrideOffsets | None:
    """Return where an op with its own forward subsamples its dense map, or None if it does not do that.

    Plain ops keep the positions 0, s, 2s, ... of their dense map. If the padding depends on the
    stride (TensorFlow's "SAME"), the first position depends on the map's size. A copy with random
    weights runs, strided and dense, on small random maps with every remainder of the size by the
    stride; the module itself is not run, and its weights are not read.

    Args:
        module: A convolution or pool with the attribute ``stride``; may be on the meta device.
        op: The module's `Op`, as returned by `read_module`.
        keep: The stride that it will keep.
        args: Arguments of the call after the map.
        kwargs: Further arguments of the call.

    Example:
        >>> from .op_table import read_module
        >>> conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        >>> find_stride_offsets(conv, read_module(conv), (1, 1))
        ((0, 0), (0, 0))
    """
    steps = tuple(stride // k for stride, k in zip(op.stride, keep, strict=True))
    found: list[dict[int, int]] = [{} for _ in steps]
    try:
        with trial():
            for strided, dense in _tries(module, op, keep, args, kwargs):
                first = _first_positions(strided, dense, steps)
                for axis, place in enumerate(first or ()):
                    remainder = dense.shape[2 + axis] % steps[axis]
                    if found[axis].setdefault(remainder, place) != place:
                        return None
                if first is None:
                    return None
    except Exception:  # a module's code may raise anything when it is called alone
        return None
    complete = all(len(places) == step for places, step in zip(found, steps, strict=True))
    return tuple(tuple(places[r] for r in range(len(places))) for places in found) if complete else None


def _tries(
    module: nn.Module, op: Op, keep: Sequence[int], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the strided and the dense output for two map sizes of every remainder by the stride."""
    generator = torch.Generator().manual_seed(0)
    strided = _with_random_weights(module, generator)
    dense = copy.deepcopy(strided)
    set_stride(dense, op, keep)
    for index in range(2 * max(op.stride)):
        x = _small_map(op, index, generator)
        yield run_apart(strided.forward, x, *args, **kwargs), run_apart(dense.forward, x, *args, **kwargs)


def set_stride(module: nn.Module, op: Op, stride: Sequence[int]) -> None:
    """Set an op's stride as the transform does."""
    for path in op.strided:
        module.get_submodule(path).stride = tuple(stride)  # type: ignore[assignment]


def small_shape(op: Op, index: int) -> tuple[int, ...]:
    """The shape of a small batch for an op: of maps of all remainders by the stride, square, wide and high."""
    ndim, period = len(op.stride), max(op.stride)
    window = op.window or Window((1,) * ndim, (), (1,) * ndim)
    spans = [d * (k - 1) + 1 for k, d in zip(window.size, window.dilation, strict=True)]
    more = [0] * ndim if index < period else list(range(ndim))[:: 1 if index % 2 else -1]
    size = [span + 2 * s + index % period + m for span, s, m in zip(spans, op.stride, more, strict=True)]
    return (1 + index % 2, op.in_channels or 2, *size)


def _small_map(op: Op, index: int, generator: torch.Generator) -> Tensor:
    return _random(small_shape(op, index), generator)


def _random(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Random numbers of the dtype of `_with_random_weights`, whatever torch's default is."""
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


def _with_random_weights(module: nn.Module, generator: torch.Generator) -> nn.Module:
    twin = drawn_copy(module, lambda shape: _random(shape, generator))
    for buffer in twin.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5, generator=generator)  # may be a variance
    return twin


def _first_positions(strided: Tensor, dense: Tensor, steps: Sequence[int]) -> tuple[int, ...] | None:
    for first in itertools.product(*map(range, steps)):
        positions = (slice(None), slice(None), *(slice(f, None, s) for f, s in zip(first, steps, strict=True)))
        kept = dense[positions]
        if kept.shape == strided.shape and float((kept - strided).abs().max()) <= 1e-4 * float(strided.abs().max()):
            return first
    return None


def is_linear(node: fx.Node, module: nn.Module | None, op: Op) -> bool:
    """True for a convolution without a nonlinearity in its own forward, so that it commutes with linear ops."""
    if module is None or is_plain(module):
        return True
    args, kwargs = other_arguments(node)
    try:
        with trial():
            generator = torch.Generator().manual_seed(0)
            twin = _with_random_weights(module, generator)
            x, y = (10 * _small_map(op, 0, generator) for _ in range(2))  # further from 0 than biases and means are
            at_x, at_y, between = (run_apart(twin.forward, at, *args, **kwargs) for at in (x, y, (x + y) / 2))
            return float((at_x + at_y - 2 * between).abs().max()) <= 1e-4 * float(between.abs().max())
    except Exception:  # a module's code may raise anything when it is called alone
        return False


def returns_activation(norm: nn.Module, name: str, shape: Sequence[int]) -> bool:
    """True if a norm's own forward returns what the activation of that name in it returns.

    A copy of the norm runs on a random map, as in `find_stride_offsets`.

    Args:
        norm: The norm.
        name: The activation's name in the norm.
        shape: The shape of a map that it takes.
    """
    outputs: list[Any] = []
    try:
        with trial():
            generator = torch.Generator().manual_seed(0)
            twin = _with_random_weights(norm, generator)
            twin.get_submodule(name).register_forward_hook(lambda *call: outputs.append(call[-1]))
            result = run_apart(twin.forward, _random(shape, generator))
    except Exception:
        return False
    return len(outputs) == 1 and outputs[0] is result


def is_plain(module: nn.Module) -> bool:
    """True for a convolution or pool that computes what torch's own class does: no class or tool changed how."""
    methods = [getattr(module, name) for name in ("forward", "_conv_forward") if hasattr(module, name)]
    return all(getattr(method, "__func__", None) in _PLAIN_METHODS and method.__self__ is module for method in methods)


def own_forward(module: nn.Module) -> str:
    """The reason to skip a module without stride offsets."""
    return f"{type(module).__name__} has its own forward, which does not subsample its dense evaluation"


def shifted(offsets: StrideOffsets) -> StrideOffsets | None:
    """The offsets, or None if all are 0, as in every plain op."""
    return offsets if any(map(any, offsets)) else None


_CONVS, _POOLS = (nn.Conv1d, nn.Conv2d, nn.Conv3d), (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_PLAIN_METHODS = frozenset(
    [
        *(cls.forward for cls in (*_CONVS, *_POOLS, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)),
        *(cls._conv_forward for cls in _CONVS),
    ]
)
