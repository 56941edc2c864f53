"""A set of published weights as an object with transforms, class names and metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .classes import class_names
from .entry import Entry
from .pretrained import get_entry

if TYPE_CHECKING:
    from torch import Tensor

    from ..layers import FilterSize


@dataclass(frozen=True)
class PretrainedWeights:
    """A set of weights of the manifest, with the interface of torchvision's weights enums.

    Attributes:
        entry: The manifest's entry.
    """

    entry: Entry

    @property
    def name(self) -> str:
        """The entry's name, such as ``resnet50 filter_size=3 timm_bt``."""
        return self.entry.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs; empty if they are unknown."""
        return class_names(self.entry)

    @property
    def meta(self) -> Mapping[str, Any]:
        """Metadata: dataset, classes, metrics in percent, structure, licence, citation, command, preprocessing."""
        entry = self.entry
        return {
            "model": entry.model,
            "filter_size": entry.filter_size,
            "recipe": entry.recipe,
            "dataset": entry.dataset,
            "categories": list(self.classes),
            "metrics": dict(entry.metrics),
            "structure": dict(entry.structure),
            "license": entry.license.name,
            "citation": entry.citation,
            "command": entry.command,
            "preprocessing": asdict(entry.preprocessing),
        }

    def transforms(self, train: bool = False) -> Callable[[Any], Tensor]:
        """A torchvision v2 transform from a PIL image to the network's input.

        Args:
            train: Use a random resized crop and flip, for fine-tuning, instead of the evaluation
                preprocessing.

        Returns:
            A function that returns a ``(C, crop, crop)`` float32 tensor.
        """
        preprocessing = self.entry.preprocessing
        return preprocessing.build_training() if train else preprocessing.build()


def get_weights(name: str, filter_size: FilterSize | None = 4, recipe: str | None = None) -> PretrainedWeights:
    """One set of weights as an object: preprocessing, class names, metrics, licence.

    Args:
        name: A network of the zoo.
        filter_size: 1 to 7, or None for a baseline.
        recipe: How the weights were made; None for the default, which ``pretrained=True`` uses.

    Raises:
        antialiased_zoo.errors.UnknownWeightsError: (a ValueError) If there are none; the message
            lists the available ones.

    Example:
        >>> weights = get_weights("resnet50", 3, "timm_bt")
        >>> weights.classes[0], weights.meta["metrics"]["acc1"]
        ('tench', 79.306)
    """
    return PretrainedWeights(get_entry(name, filter_size, recipe))
