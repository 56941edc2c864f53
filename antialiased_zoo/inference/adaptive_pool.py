"""Adaptive average pools as matrix products, which exported code computes correctly at every size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

_ATEN = torch.ops.aten
_POOLS = (_ATEN.adaptive_avg_pool1d.default, _ATEN.adaptive_avg_pool2d.default)
_MAX_POOLS = (_ATEN.adaptive_max_pool1d.default, _ATEN.adaptive_max_pool2d.default, _ATEN.adaptive_max_pool3d.default)


def replace_adaptive_pools(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Replace the adaptive average pools of a program with dynamic sizes, except those to one pixel.

    torch's ONNX exporter and AOTInductor compute them correctly only at the sizes of the images used for tracing, and
    give no error at others (torch 2.14).

    Raises:
        ValueError: If the program has an adaptive max pool, except to one pixel: AOTInductor is wrong there too, and it
            is no matrix product.
    """
    pools = [node for node in program.graph.nodes if node.target in (*_POOLS, *_MAX_POOLS)]
    kinds = {node.target for node in pools if not _is_global(node.args[1])}
    if not kinds:
        return program
    if kinds.intersection(_MAX_POOLS):
        raise ValueError(
            "the network has an adaptive max pool, which torch exports for one size only: leave height and width out "
            "of the dynamic axes, or export as pt2"
        )
    decomposed: torch.export.ExportedProgram = program.run_decompositions(dict.fromkeys(_POOLS, _pool))
    return decomposed


def _is_global(size: Sequence[int]) -> bool:
    return all(n == 1 for n in size)


def _pool(x: Tensor, size: Sequence[int]) -> Tensor:
    if _is_global(size):
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
