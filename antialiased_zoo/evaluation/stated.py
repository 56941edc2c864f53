"""Preprocessing as other libraries state it, and what a command line changes of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..weights import Preprocessing, checkpoints


def from_timm(config: Mapping[str, Any]) -> tuple[Preprocessing, str]:
    """Reads timm's ``pretrained_cfg`` or ``default_cfg``, as ``timm.data.create_transform`` does for evaluation.

    Returns:
        The preprocessing, and what of the configuration it does not follow (empty for most).

    Raises:
        ValueError: An interpolation that this package does not have.

    Example:
        >>> from_timm({"input_size": (3, 224, 224), "crop_pct": 0.9, "interpolation": "bicubic"})[0].resize
        248
    """
    crop, mode = int(config["input_size"][-1]), config.get("crop_mode") or "center"
    facts: dict[str, Any] = {name: tuple(config[name]) for name in ("mean", "std") if config.get(name)}
    interpolation = config.get("interpolation") or "bilinear"
    stated = Preprocessing(math.floor(crop / (config.get("crop_pct") or 0.875)), crop, interpolation, **facts)
    return stated, "" if mode == "center" else f", but a centre crop where it says {mode!r}"


def from_torchvision(transforms: Any) -> Preprocessing:
    """Reads torchvision's ``weights.transforms()`` for classification.

    Raises:
        ValueError: Transforms for another task.
    """
    try:
        (resize,), (crop,) = transforms.resize_size, transforms.crop_size
        mean, std = tuple(transforms.mean), tuple(transforms.std)
        return Preprocessing(resize, crop, transforms.interpolation.value, mean, std)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"torchvision's {type(transforms).__name__} is not for classification: {error}") from error


@dataclass(frozen=True)
class Stated:
    """What is stated of weights in a file, and where.

    Attributes:
        preprocessing: ``None`` if nothing states it.
        classes: Names of the outputs; ``None`` if unknown.
        by: Where this was found; empty if nowhere.
    """

    preprocessing: Preprocessing | None = None
    classes: Sequence[str] | None = None
    by: str = ""


def from_file(weights: Path) -> Stated:
    """Reads the JSON that training writes beside weights, or else the record that the file itself holds.

    Raises:
        CheckpointError: The file is not sound.
    """
    record = weights.with_suffix(".json")
    if record.is_file():
        entry = json.loads(record.read_text()).get("entry", {})
        if stated := entry.get("preprocessing"):
            facts: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in stated.items()}
            return Stated(Preprocessing(**facts), entry.get("classes"), "the record beside its weights")
        if entry.get("classes"):
            return Stated(classes=entry["classes"])
    config = checkpoints.read_contents(weights).config
    return Stated() if config is None else Stated(config.preprocessing, config.classes, "the record in its weights")


def changed(
    facts: Preprocessing,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str | None = None,
    crop_pct: float | None = None,
    resize: int | None = None,
    crop: int | None = None,
) -> Preprocessing:
    """Returns preprocessing with some facts replaced; timm's ``crop_pct`` is the crop's share of the resized image.

    Raises:
        ValueError: Both resize and crop_pct, a share outside 0..1, or facts that do not go
            together.

    Example:
        >>> changed(Preprocessing(), crop=288, crop_pct=0.9).resize
        320
    """
    if crop_pct is not None:
        if resize is not None:
            raise ValueError("resize and crop_pct say the same thing: give one of the two")
        if not 0 < crop_pct <= 1:
            raise ValueError(f"crop_pct must be above 0 and at most 1, got {crop_pct}")
        resize = math.floor((crop or facts.crop) / crop_pct)
    sequences = {"mean": mean and tuple(mean), "std": std and tuple(std)}
    given = {**sequences, "interpolation": interpolation, "resize": resize, "crop": crop}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(facts, **changes)


def described(facts: Preprocessing) -> str:
    """Returns preprocessing in a few words, for a report.

    Example:
        >>> described(Preprocessing())
        'resize 256, crop 224, bilinear, mean 0.485 0.456 0.406, std 0.229 0.224 0.225'
    """
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (facts.mean, facts.std))
    return f"resize {facts.resize}, crop {facts.crop}, {facts.interpolation}, mean {mean}, std {std}"
