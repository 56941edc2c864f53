"""The command ``predict``: classifies photos."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..weights import TIMM, Entry, manifest, repository
from .output import complain, say, say_json
from .specs import find

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn

    from ..evaluation import Described
    from ..zoo import Backbone

#: Its weights are inside the package, so it works offline.
DEFAULT = "efficientnet_lite0:lpf4"


def predict(options: argparse.Namespace) -> int:
    """Print each image's most probable classes; weights are fetched after the first readable image."""
    from ..evaluation import predict as classify

    model: nn.Module | None = None
    result = 0
    for path, photo in _photos(options.images):
        if photo is None:
            result = 1
            continue
        if model is None:
            model, entry = network(options)
        guesses = classify(model, entry, photo, options.top)
        if options.json:
            say_json({"image": path, "predictions": [asdict(guess) for guess in guesses]}, indent=None)
        else:
            say(f"{path}: " + ", ".join(f"{guess.label} {guess.probability:.3f}" for guess in guesses))
    return result


def _photos(paths: list[str]) -> Iterator[tuple[str, Image.Image | None]]:
    from ..evaluation import PhotoError, read_photo

    for path in paths:
        try:
            yield path, read_photo(path)
        except PhotoError as error:  # a bad file does not stop the others
            complain(error)
            yield path, None


def network(options: argparse.Namespace) -> tuple[nn.Module, Described]:
    """The network that ``--weights``, ``--model``, ``--classes`` and ``--device`` describe, and what is known of it.

    Raises:
        ValueError: If the weights' network is not known, or is not what the options say.
    """
    from ..evaluation import find_device
    from ..zoo import create_model

    device = find_device(options.device)
    spec = options.weights or DEFAULT
    entry: Described
    if _is_place(spec):
        model, entry = _of_place(options, spec)
    else:
        entry = found = find(spec)
        if options.model or options.classes not in (None, found.num_classes):
            raise ValueError(f"{spec} states its network and classes: --model and --classes describe a FILE")
        model = create_model(found.model, found.filter_size, found.recipe)
    return model.to(device).eval(), entry


def _is_place(spec: str) -> bool:
    from ..zoo import ARCHITECTURES

    place = Path(spec)
    # a folder that adapt made may have a network's name
    there = place.is_file() or (place / repository.WEIGHTS).is_file() or (place.is_dir() and spec not in ARCHITECTURES)
    return there or "/" in spec or place.suffix in (".pth", ".pt", ".safetensors", ".tar", ".ckpt")


def _of_place(options: argparse.Namespace, place: str) -> tuple[nn.Module, Described]:
    """Build the network of a file that the manifest lists by name, that ``--model`` describes, or that the file states.

    Raises:
        ValueError: If none of the three does, or ``--classes`` is not the number of the file's.
    """
    from ..zoo import ARCHITECTURES, create_model, from_pretrained

    listed = next((entry for entry in manifest.load() if Path(place).name in [f.file for f in entry.files]), None)
    entry: Entry | None = find(options.model) if options.model else listed
    if entry is None:
        stated = repository.open_place(place).config
        if stated is None or stated.model not in ARCHITECTURES:
            raise ValueError(
                f"{place} does not state its network: give it, for example --model resnet50:lpf4; "
                "antialiased_zoo.evaluation.load_named loads those of other networks, in Python"
            )
        built = from_pretrained(place)
        return _checked(built, options, place), built.config
    if entry.model.startswith(TIMM):
        classes = options.classes or entry.num_classes
        return create_model(entry.model, None, place, classes), _with_classes(entry, classes, None)
    # Without a number of classes: another than the file's would be a new head, with random weights.
    structure: dict[str, Any] = dict(entry.structure)
    built = create_model(entry.model, entry.filter_size, place, **structure)
    entry = _with_classes(entry, built.num_classes, built.config.classes)
    return _checked(built, options, place), replace(
        entry, preprocessing=entry.preprocessing.for_channels(built.config.in_chans)
    )


def _checked(model: Backbone, options: argparse.Namespace, place: str) -> Backbone:
    if not model.num_classes or options.classes not in (None, model.num_classes):
        expected = "at least 1" if options.classes is None else f"--classes {options.classes}"
        raise ValueError(f"{place} has {model.num_classes} classes, expected {expected}")
    return model


def _with_classes(entry: Entry, number: int, names: tuple[str, ...] | None) -> Entry:
    """An entry for another file of its network; the entry's class names stay only if it has as many classes."""
    if number == entry.num_classes:
        return replace(entry, classes=names or entry.classes)
    return replace(entry, num_classes=number, classes=names, dataset="")
