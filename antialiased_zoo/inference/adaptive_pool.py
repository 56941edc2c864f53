"""Adaptive average pools as matrix products, which exported code computes correctly at every size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

_POOLS = (torch.ops.aten.adaptive_avg_pool1d.default, torch.ops.aten.adaptive_avg_pool2d.default)


def replace_adaptive_pools(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Replace the adaptive average pools of a program with dynamic sizes, except those to one pixel.

    torch's ONNX exporter and AOTInductor compute them correctly only at the sizes of the images used for tracing, and
    give no error at others (torch 2.14).
    """
    pools = [node for node in program.graph.nodes if node.target in _POOLS]
    if all(_is_mean(node.args[1]) for node in pools):
        return program
    decomposed: torch.export.ExportedProgram = program.run_decompositions(dict.fromkeys(_POOLS, _pool))
    return decomposed


def _is_mean(size: Sequence[int]) -> bool:
    return all(n == 1 for n in size)


def _pool(x: Tensor, size: Sequence[int]) -> Tensor:
    if _is_mean(size):
        return cast(Tensor, NotImplemented)  # the pool stays
    means = [_means(x, axis, n) for axis, n in zip(range(-len(size), 0), size, strict=True)]
    pooled = x @ means[-1].T
    return means[0] @ pooled if len(size) == 2 else pooled


def _means(x: Tensor, axis: int, count: int) -> Tensor:
    """A matrix ``(count, n)`` that multiplies an axis of size ``n``: each row is the mean over a window."""
    n = x.shape[axis]
    window = torch.arange(count, device=x.device)[:, None]
    first, end = window * n // count, ((window + 1) * n + count - 1) // count
    position = torch.arange(n, device=x.device)
    return ((position >= first) & (position < end)).to(x.dtype) / (end - first)
