"""Models named on a command line."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..weights import Preprocessing, manifest
from ..zoo import ARCHITECTURES, create_model

GRAMMAR = (
    "[LABEL=]NAME:FILTER[:WEIGHTS] with a zoo name, lpf1 to lpf7 or baseline, and a recipe or a weights file "
    "(resnet50:lpf4:finetuned, mobilenet_v2:baseline:runs/weights.safetensors), or [LABEL=]MODULE:CALLABLE"
)
_FILTER = re.compile(r"lpf([1-7])|(baseline)")
_LABEL = re.compile(r"([^:=/]+)=(.+)")


@dataclass(frozen=True)
class NamedModel:
    """A model and what is known of it.

    Attributes:
        label: For tables and pictures.
        spec: What named it.
        model: The network.
        preprocessing: Of its weights; ``None`` if unknown.
        classes: Names of its classes in its order; ``None`` if unknown.
    """

    label: str
    spec: str
    model: nn.Module
    preprocessing: Preprocessing | None = None
    classes: Sequence[str] | None = None


def load_named(spec: str, num_classes: int | None = None, progress: bool = True) -> NamedModel:
    """Builds the model that a command line names.

    Args:
        spec: See :data:`GRAMMAR`.
        num_classes: For networks without a recipe; by default those of the record beside the file, else 1000.
        progress: A bar while weights are fetched.

    Raises:
        ValueError: A spec of another form, or a callable that gives no module.

    Example:
        >>> load_named("plain=resnet18:baseline", num_classes=10).model.fc.out_features
        10
    """
    match = _LABEL.fullmatch(spec)
    label, rest = (match[1], match[2]) if match else (spec, spec)
    name, _, choice = rest.partition(":")
    size, _, weights = choice.partition(":")
    if name not in ARCHITECTURES:
        return NamedModel(label, spec, _imported(name, choice, spec))
    filters = _FILTER.fullmatch(size)
    if not filters:
        raise ValueError(f"{spec!r} names no filter; expected {GRAMMAR}")
    filter_size = int(filters[1]) if filters[1] else None
    if weights in ("", "torchvision") or Path(weights).exists():
        facts, classes = _recorded(weights)
        stated = num_classes or (len(classes) if classes else None)
        outputs = stated if weights != "torchvision" else None
        model = create_model(name, filter_size, weights or False, outputs, progress=progress)
        return NamedModel(label, spec, model, facts, classes)
    entry = manifest.load().find(name, filter_size, weights)
    model = create_model(name, filter_size, weights, progress=progress)
    return NamedModel(label, spec, model, entry.preprocessing, entry.classes)


def _recorded(weights: str) -> tuple[Preprocessing | None, Sequence[str] | None]:
    """Returns preprocessing and classes from the record that training writes beside weights, if it is there."""
    record = Path(weights or "none").with_suffix(".json")
    if not record.is_file():
        return None, None
    entry = json.loads(record.read_text()).get("entry", {})
    stated = entry.get("preprocessing")
    if stated is None:
        return None, entry.get("classes")
    facts: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in stated.items()}
    return Preprocessing(**facts), entry.get("classes")


def _imported(module: str, name: str, spec: str) -> nn.Module:
    if not name.isidentifier():
        raise ValueError(f"{spec!r} is neither a zoo model nor MODULE:CALLABLE; expected {GRAMMAR}")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot take {name} from module {module} for {spec!r}: {error}") from error
    model = found() if callable(found) and not isinstance(found, nn.Module) else found
    if not isinstance(model, nn.Module):
        raise ValueError(f"{spec!r} gave a {type(model).__name__}; it must be, or return, a torch.nn.Module")
    return model


def class_index(data: Sequence[str], model: Sequence[str] | None) -> list[int] | None:
    """Returns the model's class for each class of the data, by name; ``None`` if the model names none.

    Raises:
        ValueError: The data has classes that the model has not.
    """
    if model is None:
        return None
    unknown = [name for name in data if name not in model]
    if unknown:
        raise ValueError(
            f"the data has classes that the model has not: {', '.join(unknown[:5])} "
            f"({len(unknown)} of {len(data)}); the model has {', '.join(list(model)[:10])}"
        )
    return [list(model).index(name) for name in data]
