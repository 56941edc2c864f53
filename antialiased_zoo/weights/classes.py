"""Class names of weights: those that the manifest states, or ImageNet's."""

from __future__ import annotations

from functools import cache

from .entry import Entry


@cache
def imagenet_names() -> tuple[str, ...]:
    """Torchvision's English names of ImageNet-1k's classes, in the order of the outputs."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def class_names(entry: Entry) -> tuple[str, ...]:
    """Names of an entry's classes in the order of the outputs; empty if they are unknown."""
    if entry.classes is not None:
        return entry.classes
    return imagenet_names() if (entry.dataset, entry.num_classes) == ("ImageNet-1k", 1000) else ()
