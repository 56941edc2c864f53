"""Where the outputs of a strided op lie among those of its dense evaluation, found by trying it out."""

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
    """Return where an op with a forward of its own subsamples its dense map, or None if that is not what it does.

    Plain ops keep the places 0, s, 2s, ... of their dense map. Where the padding depends on the
    stride ("SAME" in TensorFlow's sense) the first place depends on the map's size. A copy with
    random weights is run, strided and dense, on small random maps of every remainder; the module
    itself is not run, and its weights are not read.

    Args:
        module: A convolution or pool with the attribute ``stride``; may be on the meta device.
        op: What `read_module` says that it does.
        keep: The stride that it is to keep.

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
                first = _first_places(strided, dense, steps)
                for axis, place in enumerate(first or ()):
                    remainder = dense.shape[2 + axis] % steps[axis]
                    if found[axis].setdefault(remainder, place) != place:
                        return None
                if first is None:
                    return None
    except Exception:  # a module's own code may raise anything when it is called alone
        return None
    complete = all(len(places) == step for places, step in zip(found, steps, strict=True))
    return tuple(tuple(places[r] for r in range(len(places))) for places in found) if complete else None


def _tries(module: nn.Module, op: Op, keep: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """The strided and the dense outputs for maps of every remainder of the stride, twice."""
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


def _first_places(strided: Tensor, dense: Tensor, steps: Sequence[int]) -> tuple[int, ...] | None:
    for first in itertools.product(*map(range, steps)):
        places = (slice(None), slice(None), *(slice(f, None, s) for f, s in zip(first, steps, strict=True)))
        kept = dense[places]
        if kept.shape == strided.shape and float((kept - strided).abs().max()) <= 1e-4 * float(strided.abs().max()):
            return first
    return None
