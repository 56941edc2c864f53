"""The positions of a strided op's outputs in its dense evaluation, found by running copies of the op."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..layers import StrideOffsets, Window
from .ops import Op
from .randomness import run_apart


def find_stride_offsets(module: nn.Module, op: Op, keep: Sequence[int]) -> StrideOffsets | None:
    """Return where an op with its own forward subsamples its dense map, or None if it does not do that.

    Plain ops keep the positions 0, s, 2s, ... of their dense map. If the padding depends on the
    stride (TensorFlow's "SAME"), the first position depends on the map's size. A copy with random
    weights runs, strided and dense, on small random maps with every remainder of the size by the
    stride; the module itself is not run, and its weights are not read.

    Args:
        module: A convolution or pool with the attribute ``stride``; may be on the meta device.
        op: The module's `Op`, as returned by `read_module`.
        keep: The stride that it will keep.

    Example:
        >>> from .op_table import read_module
        >>> conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        >>> find_stride_offsets(conv, read_module(conv), (1, 1))
        ((0, 0), (0, 0))
    """
    steps = tuple(stride // k for stride, k in zip(op.stride, keep, strict=True))
    found: list[dict[int, int]] = [{} for _ in steps]
    try:
        with torch.no_grad(), torch.device("cpu"):  # whatever device the model is being built on
            for strided, dense in _tries(module, op, keep):
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


def _tries(module: nn.Module, op: Op, keep: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the strided and the dense output for two map sizes of every remainder by the stride."""
    generator = torch.Generator().manual_seed(0)
    strided = _with_random_weights(module, generator)
    dense = copy.deepcopy(strided)
    dense.stride = tuple(keep)  # type: ignore[assignment]  # what the transform sets
    window = op.window or Window((1,) * len(op.stride), (), (1,) * len(op.stride))
    spans = [d * (k - 1) + 1 for k, d in zip(window.size, window.dilation, strict=True)]
    for extra in range(2 * max(op.stride)):
        size = [span + 2 * stride + extra for span, stride in zip(spans, op.stride, strict=True)]
        x = torch.randn(1, op.in_channels or 2, *size, generator=generator)
        yield run_apart(strided.forward, x), run_apart(dense.forward, x)


def _with_random_weights(module: nn.Module, generator: torch.Generator) -> nn.Module:
    module = copy.deepcopy(module).to_empty(device="cpu").float().eval()
    for parameter in module.parameters():
        parameter.normal_(generator=generator)
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5, generator=generator)  # may be a variance
    return module


def _first_positions(strided: Tensor, dense: Tensor, steps: Sequence[int]) -> tuple[int, ...] | None:
    for first in itertools.product(*map(range, steps)):
        positions = (slice(None), slice(None), *(slice(f, None, s) for f, s in zip(first, steps, strict=True)))
        kept = dense[positions]
        if kept.shape == strided.shape and float((kept - strided).abs().max()) <= 1e-4 * float(strided.abs().max()):
            return first
    return None


def is_plain(module: nn.Module) -> bool:
    """True for a convolution or pool with the forward of torch's own class."""
    return type(module).forward in _PLAIN_FORWARDS


def own_forward(module: nn.Module) -> str:
    """The reason to skip a module without stride offsets."""
    return f"{type(module).__name__} has its own forward, which does not subsample its dense evaluation"


def shifted(offsets: StrideOffsets) -> StrideOffsets | None:
    """The offsets, or None if all are 0, as in every plain op."""
    return offsets if any(map(any, offsets)) else None


_PLAIN_FORWARDS = frozenset(
    cls.forward
    for cls in (
        *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
        *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    )
)
