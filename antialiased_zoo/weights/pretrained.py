"""What `pretrained=` means: which weights it names, and how they get into a network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OfflineError, SourcesFailedError, UnknownWeightsError
from . import checkpoints, hub, manifest
from .entry import Entry
from .fallbacks import alternatives
from .warning import warn
from .weights_file import WeightsFile

if TYPE_CHECKING:
    from torch import nn

    from ..layers import FilterSize

#: The name that stands for the baseline's own ImageNet tensors.
TORCHVISION = "torchvision"


@dataclass(frozen=True)
class Weights:
    """Weights that `pretrained=` named.

    Attributes:
        source: A manifest's entry or another file to fetch and verify, or the path of a local file.
        num_classes: Size of their head; None if only the file knows.
        structure: The transform's options where they differ from the published network's.
    """

    source: hub.Fetchable | Path
    num_classes: int | None
    structure: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def load_into(self, model: nn.Module, progress: bool) -> None:
        """Put the tensors into a network with torchvision's names, best on the meta device."""
        if isinstance(self.source, Path):
            checkpoints.load_into(model, self.source)
            return
        try:
            checkpoints.load_entry(model, self.source, progress=progress)
        except (SourcesFailedError, OfflineError) as error:
            if isinstance(self.source, Entry):
                error.args = (f"{error}\n{alternatives(self.source)}",)
            raise


def get_entry(name: str, filter_size: FilterSize | None = 4, recipe: str | None = None) -> Entry:
    """The manifest's record of one set of weights: preprocessing, classes, metrics, licence, sources.

    Args:
        name: A network of the zoo.
        filter_size: 1 to 7, or None for a baseline; there are no weights for taps of one's own.
        recipe: How the weights were made; None for the default, the one that ``pretrained=True`` takes.

    Raises:
        antialiased_zoo.errors.UnknownWeightsError: (a ValueError) If there are none; the message lists what there is.

    Example:
        >>> get_entry("resnet50", 3, "timm_bt").metrics["acc1"]
        79.306
    """
    return manifest.load().find(name, filter_size, recipe)


def find_weights(
    name: str, filter_size: FilterSize | None, pretrained: bool | str | os.PathLike[str]
) -> Weights | None:
    """Turn ``pretrained=`` into the weights that it names, or None for False.

    Raises:
        ValueError: If there are no such weights; the message lists what there is.
        TypeError: If ``pretrained`` is not a bool, a string or a path.
    """
    if pretrained is False:
        return None
    if not isinstance(pretrained, (bool, str, os.PathLike)):
        raise TypeError(f"pretrained must be True, False, a recipe's name or a path, got {pretrained!r}")
    if _is_path(pretrained):
        return Weights(_existing(pretrained), None)
    if pretrained == TORCHVISION:
        return _baseline(name, filter_size)
    try:
        entry = get_entry(name, filter_size, None if pretrained is True else str(pretrained))
    except UnknownWeightsError:
        if pretrained is True and filter_size is None:
            return _baseline(name, filter_size)
        raise
    return Weights(entry, entry.num_classes, entry.structure)


def _is_path(pretrained: bool | str | os.PathLike[str]) -> bool:
    if isinstance(pretrained, str):  # a recipe is an identifier, a file has a folder or an ending
        return not pretrained.isidentifier()
    return isinstance(pretrained, os.PathLike)


def _existing(pretrained: bool | str | os.PathLike[str]) -> Path:
    path = Path(os.fspath(pretrained)).expanduser()  # type: ignore[arg-type]  # by `_is_path`, no bool
    if not path.is_file():
        raise FileNotFoundError(f"pretrained={str(pretrained)!r}: there is no such file, nor can it be a recipe's name")
    return path


def _baseline(name: str, filter_size: FilterSize | None) -> Weights:
    """Torchvision's weights of 2016-2019, which the paper fine-tunes from; their URL ends in the digest's beginning."""
    from torchvision.models import get_model_weights

    if filter_size is not None:
        warn(
            f"{name} with filter_size={filter_size} gets the baseline's weights, which were trained without blur: "
            "expect a lower accuracy until the network is fine-tuned"
        )
    weights = get_model_weights(name)["IMAGENET1K_V1"]
    file = weights.url.rpartition("/")[2]
    prefix = file.removesuffix(".pth").rpartition("-")[2]
    return Weights(WeightsFile(file, "pickle", (weights.url,), sha256_prefix=prefix), len(weights.meta["categories"]))
