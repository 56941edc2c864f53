"""Class names of weights: those that the manifest states, or ImageNet's."""

from __future__ import annotations

from functools import cache

from .config import NetworkConfig
from .entry import Entry


@cache
def imagenet_names() -> tuple[str, ...]:
    """Torchvision's English names of ImageNet-1k's classes, in the order of the outputs."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def class_names(of: Entry | NetworkConfig) -> tuple[str, ...]:
    """Class names in the order of the outputs; empty if they are unknown."""
    if of.classes is not None:
        return of.classes
    return imagenet_names() if (of.dataset, of.num_classes) == ("ImageNet-1k", 1000) else ()
