"""The meaning of `pretrained=`: which weights it names, and how they are loaded."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from ..errors import OfflineError, SourcesFailedError, StructureMismatchError, UnknownWeightsError, warn
from . import checkpoints, hub, manifest, repository
from .entry import Entry
from .fallbacks import alternatives
from .weights_file import WeightsFile

if TYPE_CHECKING:
    from torch import nn

    from ..layers import FilterSize

#: The name of the baseline's own ImageNet tensors.
TORCHVISION = "torchvision"


@dataclass(frozen=True)
class Weights:
    """The weights that `pretrained=` names.

    Attributes:
        source: A manifest's entry or another file to fetch and verify, or the contents of a local
            file.
        filter_size: The filter size of the weights' network, or the caller's if the source does not
            state it.
        num_classes: Size of their head; None if it must be read from the file's tensors.
        structure: The transform's options that differ from the published network's.
    """

    source: hub.Fetchable | checkpoints.Contents
    filter_size: FilterSize | None
    num_classes: int | None = None
    structure: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def fetch_into(self, model: nn.Module, progress: bool) -> None:
        """Fetch the source and load it into a network with torchvision's names, best built on the meta device."""
        if isinstance(self.source, checkpoints.Contents):
            raise TypeError(f"{self.source.path} is a local file: use its load_into()")
        try:
            checkpoints.load_entry(model, self.source, progress=progress)
        except (SourcesFailedError, OfflineError) as error:
            if isinstance(self.source, Entry):
                error.args = (f"{error}\n{alternatives(self.source)}",)
            raise


def get_entry(name: str, filter_size: FilterSize | None = 4, recipe: str | None = None) -> Entry:
    """The manifest's entry of one set of weights: preprocessing, classes, metrics, licence, sources.

    Args:
        name: A network of the zoo.
        filter_size: 1 to 7, or None for a baseline; there are no weights for custom taps.
        recipe: How the weights were made; None for the default, which ``pretrained=True`` uses.

    Raises:
        antialiased_zoo.errors.UnknownWeightsError: (a ValueError) If there are none; the message
            lists the available ones.

    Example:
        >>> get_entry("resnet50", 3, "timm_bt").metrics["acc1"]
        79.306
    """
    return manifest.load().find(name, filter_size, recipe)


def find_weights(
    name: str, filter_size: FilterSize | None, pretrained: bool | str | os.PathLike[str], chosen: bool = True
) -> Weights | None:
    """Find the weights that ``pretrained=`` names; None for False.

    Args:
        name: A network of the zoo.
        filter_size: The requested filter size.
        pretrained: The user's argument.
        chosen: True if the user chose the filter size; otherwise the weights' own may replace it.

    Raises:
        ValueError: If there are no such weights; the message lists the available ones.
        TypeError: If ``pretrained`` is not a bool, a string or a path.
        StructureMismatchError: If a file was saved from a network with another filter size.
    """
    if pretrained is False:
        return None
    check_pretrained(pretrained)
    if _is_path(pretrained):
        return _of_file(_open(os.fspath(cast(str, pretrained))), filter_size, chosen)
    if pretrained == TORCHVISION:
        return _baseline(name, filter_size)
    recipe = None if pretrained is True else str(pretrained)
    fitting = {entry.filter_size for entry in manifest.load().of_model(name) if entry.recipe == recipe}
    if not chosen and filter_size not in fitting and len(fitting) == 1:
        (filter_size,) = fitting
    try:
        entry = get_entry(name, filter_size, recipe)
    except UnknownWeightsError:
        if pretrained is True and filter_size is None:
            return _baseline(name, filter_size)
        raise
    return Weights(entry, entry.filter_size, entry.num_classes, entry.structure)


def check_pretrained(pretrained: object) -> None:
    """Check the user's argument.

    Raises:
        TypeError: If it is not a bool, a string or a path.
        ValueError: If it is empty.
    """
    if not isinstance(pretrained, (bool, str, os.PathLike)):
        raise TypeError(f"pretrained must be True, False, a recipe's name or a path, got {reprlib.repr(pretrained)}")
    if pretrained == "":  # as a path it would be the current folder
        raise ValueError("pretrained is '': give True, False, a recipe's name or a path")


def _open(place: str) -> checkpoints.Contents:
    try:
        return repository.open_place(place)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"pretrained={place!r}: there is no such file, and it cannot be a recipe's name"
        ) from None


def _is_path(pretrained: bool | str | os.PathLike[str]) -> bool:
    if isinstance(pretrained, str):  # a recipe is an identifier, a file has a folder or an ending
        return not pretrained.isidentifier()
    return isinstance(pretrained, os.PathLike)


def _of_file(contents: checkpoints.Contents, filter_size: FilterSize | None, chosen: bool) -> Weights:
    config, blur_size = contents.config, contents.blur_size
    if config is not None:
        own = config.filter_size
        return Weights(contents, filter_size if chosen else own, config.num_classes, config.structure)
    if blur_size is not None and chosen and filter_size != blur_size:
        raise StructureMismatchError(
            f"{contents.path} holds blurs of filter_size={blur_size}, but the network has filter_size={filter_size}"
        )
    if blur_size is None and filter_size is not None:
        warn(
            f"{contents.path} does not state the network of its tensors: filter_size={filter_size} and the published "
            "structure are a guess. Weights saved with save_pretrained(), or from the state_dict() of a network of "
            "this version, state it"
        )
    return Weights(contents, filter_size if blur_size is None else blur_size)


def _baseline(name: str, filter_size: FilterSize | None) -> Weights:
    """Torchvision's weights of 2016-2019, from which the paper fine-tunes; their URL ends in a digest prefix."""
    from torchvision.models import get_model_weights

    if filter_size is not None:
        warn(
            f"{name} with filter_size={filter_size} gets the baseline's weights, which were trained without blur: "
            "expect a lower accuracy until the network is fine-tuned"
        )
    weights = get_model_weights(name)["IMAGENET1K_V1"]
    file = weights.url.rpartition("/")[2]
    prefix = file.removesuffix(".pth").rpartition("-")[2]
    source = WeightsFile(file, "pickle", (weights.url,), sha256_prefix=prefix)
    return Weights(source, filter_size, len(weights.meta["categories"]))
