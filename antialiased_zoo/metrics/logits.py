"""Logits: what a model answers, and the class that it predicts."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from .running import Model


def logits_of(model: Model, images: Tensor) -> Tensor:
    """Runs a model and returns its logits ``(N, classes)``.

    Raises:
        ValueError: It returned anything else, such as a dict or maps.
    """
    found: Any = model(images)
    if isinstance(found, Tensor) and found.dim() == 2 and len(found) == len(images):
        return found
    given = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"an object of type {type(found).__name__}"
    raise ValueError(
        f"the model returned {given} for {len(images)} images; expected a tensor of logits (N, classes): give a "
        "function that returns them, such as lambda images: model(images).logits"
    )


def predicted(logits: Tensor) -> Tensor:
    """Returns the predicted class, the argmax of logits ``(..., classes)``, int64 ``(...)``.

    Raises:
        ValueError: There are fewer than two classes, of which one is always predicted; or a logit is
            NaN or infinity, which argmax would prefer to every number.
    """
    require_classes(logits.shape[-1])
    if not bool((logits < math.inf).all()):
        raise ValueError(
            "the model's logits contain NaN or infinity: check its weights and its inputs, or use a dtype of larger "
            "range than float16"
        )
    return logits.argmax(-1)


def require_classes(outputs: int) -> None:
    """Refuses a model with a single output, which would predict the same class whatever it sees.

    Raises:
        ValueError: There are fewer than two outputs.
    """
    if outputs < 2:
        raise ValueError(
            f"a model with {outputs} output predicts the same class for every image; if the output is for one of two "
            "classes, measure a function that returns logits of both: lambda images: F.pad(model(images), (1, 0))"
        )
