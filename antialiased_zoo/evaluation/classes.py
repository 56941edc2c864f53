"""Mapping of a data set's classes to a model's outputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from ..weights import imagenet_names
from .text_file import read_text_file

SAME_ORDER = "same-order"


@dataclass(frozen=True)
class ClassMap:
    """A mapping of a data set's classes to a model's outputs.

    Attributes:
        index: The model's output for each class of the data.
        how: How they were matched, for reports.
    """

    index: list[int]
    how: str


@cache
def imagenet_ids() -> tuple[str, ...]:
    """Returns the WordNet ids of ImageNet-1k's classes in the order of the outputs."""
    text = files(__package__).joinpath("imagenet_wnids.txt").read_text(encoding="utf-8")
    return tuple(text.split())


def match_classes(
    data: Sequence[str], outputs: int, model: Sequence[str] | None = None, given: str | None = None
) -> ClassMap:
    """Finds the model's output for each class of the data.

    Args:
        data: Names of the data's classes, in its order.
        outputs: Number of the model's outputs.
        model: Names of the model's outputs, if known.
        given: ``same-order`` if the data's k-th class is the model's k-th output, or a file as in
            `read_classes`.

    Raises:
        ValueError: The model lacks a class name or has it twice, or, if no names are known, the
            numbers of classes differ, or the data's names are numbers in another order.

    Example:
        >>> match_classes(["n01443537", "n01440764"], 1000).index
        [1, 0]
    """
    if given == SAME_ORDER:
        if len(data) > outputs:
            raise ValueError(f"the data has {len(data)} classes, but the model only {outputs}")
        return ClassMap(list(range(len(data))), "in the same order, as requested")
    if given:
        return ClassMap(_by_file(data, outputs, Path(given)), f"by {given}")
    for names, how in _known(outputs, model):
        if set(data) <= set(names):
            return ClassMap(_by_name(data, names), how)
    if model is not None and tuple(model) != imagenet_names():
        raise ValueError(_unknown(data, model))
    if len(data) != outputs:
        raise ValueError(
            f"the model has {outputs} classes, the data {len(data)}, and their names do not match; give --classes "
            "FILE (the model's class names in its order, or JSON that maps folders to outputs), or measure only crop "
            "and circular consistency, which need no classes"
        )
    return _by_order(data, model)


def _by_order(data: Sequence[str], model: Sequence[str] | None) -> ClassMap:
    """As many classes as outputs, without a common name."""
    numbers = [int(name) for name in data if name.isdecimal()]
    first = min(numbers, default=0)
    if first in (0, 1) and sorted(numbers) == list(range(first, first + len(data))) != numbers:
        # Folders 0, 1, 10, 11 ... 2: no network of ImageNet was trained in their order as text, others were.
        if model is not None and first == 0:
            return ClassMap(numbers, "by number")
        raise ValueError(
            "the data's classes are numbers, whose order as text (10 before 2) is another: if the model was trained in "
            "their order as text, as by torchvision's ImageFolder, give --classes same-order; if they number its "
            "outputs, give --classes FILE with JSON that maps each to its output"
        )
    return ClassMap(list(range(len(data))), "in the order of their names (as many as the model has; none of its own)")


def class_index(data: Sequence[str], model: Sequence[str] | None) -> list[int] | None:
    """Returns the model's output for each class of the data, matched by name; ``None`` if the model has no names.

    Raises:
        ValueError: The model lacks a class of the data.
    """
    return None if model is None else match_classes(data, len(model), model).index


def _known(outputs: int, model: Sequence[str] | None) -> list[tuple[Sequence[str], str]]:
    known: list[tuple[Sequence[str], str]] = [(model, "by the model's class names")] if model is not None else []
    if outputs == 1000 and (model is None or tuple(model) == imagenet_names()):
        known += [(imagenet_ids(), "by wordnet id"), (imagenet_names(), "by ImageNet's class names")]
    return known


def _by_name(data: Sequence[str], names: Sequence[str]) -> list[int]:
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    twice = [name for name in data if len(places[name]) > 1]
    if twice:
        raise ValueError(f"the model has several classes called {', '.join(twice)}; map them with --classes FILE")
    return [places[name][0] for name in data]


def _unknown(data: Sequence[str], names: Sequence[str]) -> str:
    unknown = [name for name in data if name not in set(names)]
    return (
        f"the data has classes that the model lacks: {', '.join(unknown[:5])} ({len(unknown)} of {len(data)}); "
        f"the model has {', '.join(list(names)[:10])}; map them with --classes FILE"
    )


def _by_file(data: Sequence[str], outputs: int, path: Path) -> list[int]:
    known = read_classes(path)
    if isinstance(known, dict):
        missing = [name for name in data if name not in known]
        if missing:
            raise ValueError(f"{path} does not map {', '.join(missing[:5])} ({len(missing)} of {len(data)} classes)")
        index = [known[name] for name in data]
    else:
        if len(known) != outputs:
            raise ValueError(f"{path} names {len(known)} classes, but the model has {outputs}")
        if not set(data) <= set(known):
            raise ValueError(f"{path}: {_unknown(data, known)}")
        index = _by_name(data, known)
    if any(not 0 <= place < outputs for place in index):
        raise ValueError(f"{path} maps to outputs outside 0..{outputs - 1}")
    return index


def read_classes(path: Path) -> list[str] | dict[str, int]:
    """Reads class names, one per line or as a JSON list, or a JSON object from the data's classes to outputs.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The JSON has another form.
    """
    text = read_text_file(path)
    if path.suffix != ".json":
        return [line.strip() for line in text.splitlines() if line.strip()]
    found = json.loads(text)
    if isinstance(found, list) and all(isinstance(name, str) for name in found):
        return found
    if isinstance(found, dict) and all(isinstance(place, int) for place in found.values()):
        return found
    raise ValueError(f"{path} must hold a list of names, or an object from folder to output number")
