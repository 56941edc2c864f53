"""torch's function for a number of spatial axes."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def torch_function(name: str, ndim: int) -> Callable[..., Tensor]:
    """The function of `torch.nn.functional` called ``name.format(ndim)``, such as "conv{}d" for a map.

    It is looked up at each call, since profilers replace these functions to count operations.
    """
    function: Callable[..., Tensor] = getattr(F, name.format(ndim))  # not cast(), which torch 2.6 cannot compile
    return function
