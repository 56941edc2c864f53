"""Running a model to judge it: evaluation mode and no gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Model = Callable[[Tensor], Tensor]


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Evaluation mode (of a module) and no gradients; afterwards every submodule is as it was."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True
