"""A context for evaluating a model: evaluation mode and no gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Model = Callable[[Tensor], Tensor]


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Evaluation mode (if the model is a module) and no gradients; each submodule's mode is restored afterwards.

    Not `torch.inference_mode`: a tensor that a model keeps from such a pass could not be used in training.
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
