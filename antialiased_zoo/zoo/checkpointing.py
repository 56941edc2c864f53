"""Gradient checkpointing: activations are recomputed in the backward pass instead of saved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from ..transform import check
from .registry import Layout
from .units import containers, segments


def run_checkpointed(model: nn.Module, layout: Layout, x: Tensor) -> Tensor:
    """Apply a network's body segment by segment, each recomputed in the backward pass."""
    for _, container in containers(model, layout):
        check(container)  # as before its forward, which a chain of units bypasses
    for segment in segments(model, layout):
        part = nn.Sequential(*(module for _, module in segment))
        if torch.compiler.is_compiling():  # the compiler recomputes without running the norms' updates again
            x = cast(Tensor, checkpoint(part, x, use_reentrant=False))
        else:
            x = cast(Tensor, checkpoint(part, x, use_reentrant=False, context_fn=partial(_contexts, part)))
    return x


def _contexts(part: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return contextlib.nullcontext(), _frozen_statistics(part)


@contextlib.contextmanager
def _frozen_statistics(part: nn.Module) -> Iterator[None]:
    """A context without updates of running statistics, so that recomputing does not update them twice."""
    norms = [module for module in part.modules() if isinstance(module, _NormBase) and module.training]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
