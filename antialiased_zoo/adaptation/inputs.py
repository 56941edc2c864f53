"""What a loader gives: images, alone or before anything else."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def inputs_of(batch: Any) -> Tensor:
    """Return a batch's inputs: the tensor itself, or what a tuple or list begins with.

    Raises:
        TypeError: If it is neither.
    """
    first = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(first, Tensor):
        raise TypeError(
            f"a batch must be a tensor of inputs, or a tuple or list that begins with one, got {type(batch).__name__}; "
            'give what the model reads, for example (batch["pixel_values"] for batch in loader)'
        )
    return first
