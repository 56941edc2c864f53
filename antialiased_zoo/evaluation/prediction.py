"""Classification of one photo: class names and probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from PIL import Image
from torch import nn

from ..weights import Entry, NetworkConfig, class_names

#: What turns a photo into named predictions: a manifest's entry, or the record in a file.
Described: TypeAlias = Entry | NetworkConfig


@dataclass(frozen=True)
class Prediction:
    """One predicted class.

    Attributes:
        index: The class's index among the outputs.
        label: Its name.
        probability: Its softmax probability, 0 to 1.
    """

    index: int
    label: str
    probability: float


def class_labels(of: Described) -> Sequence[str]:
    """A label for each class, in the order of the outputs: its name, or "class 0" and so on."""
    return class_names(of) or [f"class {index}" for index in range(of.num_classes)]


@torch.no_grad()
def predict(model: nn.Module, entry: Described, photo: Image.Image, top: int = 5) -> list[Prediction]:
    """Classify one photo with the preprocessing of the weights.

    Args:
        model: A network with the entry's weights, in evaluation mode.
        entry: The manifest's entry, or the record in a file: preprocessing and class names.
        photo: Any PIL image.
        top: Number of classes to return, most probable first.

    Example:
        >>> entry = get_entry("mobilenet_v2", 4, "cifar10")  # doctest: +SKIP
        >>> predict(az.mobilenet_v2(4, pretrained="cifar10").eval(), entry, photo)[0].label  # doctest: +SKIP
        'cat'
    """
    device = next(model.parameters()).device
    image = entry.preprocessing.build()(photo).to(device)
    probabilities, indices = model(image[None])[0].float().softmax(0).topk(min(top, entry.num_classes))
    names = class_labels(entry)
    pairs = zip(indices.tolist(), probabilities.tolist(), strict=True)
    return [Prediction(index, names[index], probability) for index, probability in pairs]
