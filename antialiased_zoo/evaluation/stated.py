"""Preprocessing as stated by other libraries and weights files, and changed by a command line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..weights import Preprocessing, checkpoints


def from_timm(config: Mapping[str, Any]) -> tuple[Preprocessing, str]:
    """Reads timm's ``pretrained_cfg`` or ``default_cfg``, like ``timm.data.create_transform`` for evaluation.

    Returns:
        The preprocessing, and how it deviates from the configuration ("" if it does not).

    Raises:
        ValueError: The interpolation is not supported.

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
        ValueError: The transforms are for another task.
    """
    try:
        (resize,), (crop,) = transforms.resize_size, transforms.crop_size
        mean, std = tuple(transforms.mean), tuple(transforms.std)
        return Preprocessing(resize, crop, transforms.interpolation.value, mean, std)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"torchvision's {type(transforms).__name__} is not for classification: {error}") from error


def from_file(weights: Path) -> dict[str, Any]:
    """Reads the JSON that training writes next to the weights, or else the record in the file itself.

    Returns:
        What is stated of `Built`'s ``preprocessing``, ``classes`` and ``stated_by``.

    Raises:
        CheckpointError: The file is corrupt.
    """
    record = weights.with_suffix(".json")
    if record.is_file():
        entry = json.loads(record.read_text(encoding="utf-8")).get("entry", {})
        classes = {"classes": entry.get("classes")}
        if stated := entry.get("preprocessing"):
            facts: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in stated.items()}
            return {**classes, "preprocessing": Preprocessing(**facts), "stated_by": "the record next to its weights"}
        if entry.get("classes"):
            return classes
    config = checkpoints.read_contents(weights).config
    if config is None:
        return {}
    return {
        "preprocessing": config.preprocessing,
        "classes": config.classes,
        "stated_by": "the record in its weights",
    }


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
    """Returns preprocessing with some settings replaced; timm's ``crop_pct`` is crop divided by resize.

    Raises:
        ValueError: Both resize and crop_pct are given, crop_pct is not in 0..1, or the settings
            contradict each other.

    Example:
        >>> changed(Preprocessing(), crop=288, crop_pct=0.9).resize
        320
    """
    if crop_pct is not None:
        if resize is not None:
            raise ValueError("resize and crop_pct are alternatives: give only one of them")
        if not 0 < crop_pct <= 1:
            raise ValueError(f"crop_pct must be above 0 and at most 1, got {crop_pct}")
        resize = math.floor((crop or facts.crop) / crop_pct)
    sequences = {"mean": mean and tuple(mean), "std": std and tuple(std)}
    given = {**sequences, "interpolation": interpolation, "resize": resize, "crop": crop}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(facts, **changes)


def described(facts: Preprocessing) -> str:
    """Returns a short description of preprocessing, for reports.

    Example:
        >>> described(Preprocessing())
        'resize 256, crop 224, bilinear, mean 0.485 0.456 0.406, std 0.229 0.224 0.225'
    """
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (facts.mean, facts.std))
    return f"resize {facts.resize}, crop {facts.crop}, {facts.interpolation}, mean {mean}, std {std}"
