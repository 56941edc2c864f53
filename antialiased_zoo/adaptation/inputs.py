"""The inputs in a loader's batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def inputs_of(batch: Any) -> Tensor:
    """Return a batch's inputs: the tensor itself, or the first element of a tuple or list.

    Raises:
        TypeError: If that is not a tensor.
    """
    first = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(first, Tensor):
        raise TypeError(
            f"a batch must be a tensor of inputs, or a tuple or list that starts with one, got {type(batch).__name__}; "
            'pass the model\'s inputs, for example (batch["pixel_values"] for batch in loader)'
        )
    return first
