"""Robustness on ImageNet-C and ImageNet-P."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..metrics import (
    ALEXNET_ERRORS,
    Figure,
    Meter,
    Model,
    corruption_error,
    corruption_folders,
    flip_rate,
    mean_corruption_error,
    predicted,
)
from ..weights import Preprocessing
from .data import open_images
from .decoding import Options
from .images import LabelledImages
from .loop import evaluate
from .measures import Accuracy
from .probes import Probe
from .protocols import ShiftProtocol, cifar
from .views import centre_view


def imagenet_c(
    models: Mapping[str, Model],
    root: str | os.PathLike[str],
    preprocessing: Preprocessing | None = None,
    options: Options | None = None,
    class_index: Callable[[Sequence[str]], Mapping[str, Sequence[int]]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Measures errors on ImageNet-C, whose images already have 224 pixels and are only centre-cropped.

    Args:
        models: Label -> model.
        root: A folder with ``<corruption>/<1..5>/<class>/<image>`` for some or all of the 15
            corruptions.
        preprocessing: Interpolation, mean and standard deviation; images are not resized at 224.
        options: How to run.
        class_index: A function that returns `evaluate`'s ``class_index`` for a folder's classes.

    Returns:
        Label -> ``errors`` (corruption -> top-1 error at each severity, percent), ``mean_error``
        (unnormalised, percent), ``mce`` (normalised by AlexNet, percent; ``None`` unless all 15
        corruptions exist), ``missing``.
    """
    protocol = _uncropped(preprocessing)
    errors: dict[str, dict[str, list[float]]] = {label: {} for label in models}
    for name, folders in corruption_folders(root).items():
        for folder in folders:
            images = open_images(folder)
            index = class_index(images.classes) if class_index else None
            found = evaluate(models, images, lambda: {"accuracy": Accuracy()}, protocol, options, index)
            for label in models:
                top1 = found.probes[label]["accuracy"].figures()["top1"].value
                errors[label].setdefault(name, []).append(100 - top1)
    return {label: _summary(of_model) for label, of_model in errors.items()}


def _summary(errors: Mapping[str, list[float]]) -> dict[str, Any]:
    means = {name: corruption_error(levels) for name, levels in errors.items()}
    missing = [name for name in ALEXNET_ERRORS if name not in errors]
    return {
        "errors": dict(errors),
        "mean_error": mean_corruption_error(means),
        "mce": None if missing else mean_corruption_error(means, ALEXNET_ERRORS),
        "missing": missing,
    }


def imagenet_p(
    models: Mapping[str, Model],
    root: str | os.PathLike[str],
    preprocessing: Preprocessing | None = None,
    options: Options | None = None,
) -> dict[str, dict[str, Any]]:
    """Measures flip rates on ImageNet-P, with clips unpacked to frames (docs/metrics.md has the command).

    Args:
        models: Label -> model.
        root: A folder with ``<perturbation>/<class>/<clip>/<frame>``, frames sorted by name.
        preprocessing: As in :func:`imagenet_c`.
        options: How to run.

    Returns:
        Label -> perturbation -> flip rate in percent with n (clips) and interval, and ``mean`` over
        the perturbations, not normalised. For noise, frames are compared with frame 0, otherwise
        with the previous frame.
    """
    rates: dict[str, dict[str, Any]] = {label: {} for label in models}
    for folder in perturbation_folders(root):
        try:
            frames = open_images(folder, labelled=False)
        except ValueError as error:
            raise ValueError(f"{error}; unpack the MP4s as docs/metrics.md says") from None
        frames.targets = list(range(len(frames)))  # so that each prediction is recorded with its frame's number
        found = evaluate(models, frames, lambda: {"seen": Predictions()}, _uncropped(preprocessing), options)
        for label in models:
            predictions = cast(Predictions, found.probes[label]["seen"]).rows
            rates[label][folder.name] = _clip_rates(predictions, frames, "noise" in folder.name)
    means = {label: sum(rate.value for rate in of_model.values()) / len(of_model) for label, of_model in rates.items()}
    return {
        label: {**{name: dict(rate.as_dict()) for name, rate in of_model.items()}, "mean": means[label]}
        for label, of_model in rates.items()
    }


def perturbation_folders(root: str | os.PathLike[str]) -> list[Path]:
    """Returns ImageNet-P's folders, one for each perturbation.

    Raises:
        FileNotFoundError: There are none.
    """
    folders = sorted(entry for entry in Path(root).iterdir() if entry.is_dir())
    if not folders:
        raise FileNotFoundError(f"no perturbation folders in {root}; expected for example translate/ in it")
    return folders


def _clip_rates(predictions: Tensor, frames: LabelledImages, noise: bool) -> Figure:
    """Returns the mean flip rate of clips, in percent, from rows (frame number, class) in any order."""
    clips: dict[str, list[int]] = {}
    for number, category in sorted(predictions.tolist()):
        clips.setdefault(frames.samples[number].rpartition("/")[0], []).append(category)
    meter = Meter("mean")
    for classes in clips.values():
        if len(classes) > 1:
            meter.update(flip_rate(torch.tensor([classes]), "first" if noise else "previous"))
    if not len(meter.rows):
        raise ValueError(f"no clip of {frames.source} has two frames that can be decoded; see docs/metrics.md")
    return meter.figure().times(100)


class Predictions(Probe):
    """Records each image's target and predicted class.

    Attributes:
        rows: The targets and predicted classes, int64 ``(N, 2)``.
    """

    needs_targets = False

    def __init__(self) -> None:
        super().__init__()
        self.rows = torch.empty(0, 2, dtype=torch.int64)

    def views(self, indices: Tensor, protocol: ShiftProtocol) -> Tensor:
        """Returns the centre crop."""
        return centre_view(protocol).expand(len(indices), 1, 3)

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Adds a batch; see :class:`Probe`."""
        self.rows = torch.cat([self.rows, torch.stack([targets, predicted(logits[:, 0])], dim=1).cpu()])

    def merge(self, other: Probe) -> None:
        """Adds another process's predictions."""
        self.rows = torch.cat([self.rows, cast(Predictions, other).rows])


def _uncropped(preprocessing: Preprocessing | None) -> ShiftProtocol:
    """A protocol without cropping, since both benchmarks' images already have the network's size."""
    facts = preprocessing or Preprocessing()
    return cifar(Preprocessing(facts.crop, facts.crop, facts.interpolation, facts.mean, facts.std))
