"""The command ``predict``: classifies photos."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..weights import Entry, manifest
from .output import complain, say, say_json

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn

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


def network(options: argparse.Namespace) -> tuple[nn.Module, Entry]:
    """The network that ``--weights``, ``--model``, ``--classes`` and ``--device`` describe, and its entry."""
    from ..evaluation import find_device
    from ..zoo import create_model

    device = find_device(options.device)
    spec = options.weights or DEFAULT
    if _is_file(spec):
        model, entry = _network_of_file(options, spec)
    else:
        entry = options.find(spec)
        model = create_model(entry.model, entry.filter_size, entry.recipe)
    return model.to(device).eval(), entry


def _is_file(spec: str) -> bool:
    return Path(spec).is_file() or "/" in spec or spec.endswith((".pth", ".pt", ".safetensors", ".tar", ".ckpt"))


def _network_of_file(options: argparse.Namespace, path: str) -> tuple[nn.Module, Entry]:
    """Build the network of a file that the manifest lists by name, or that ``--model`` describes."""
    from ..zoo import create_model

    known = next((entry for entry in manifest.load() if Path(path).name in [f.file for f in entry.files]), None)
    entry: Entry | None = options.find(options.model) if options.model else known
    if entry is None:
        raise ValueError(f"--weights {path}: state its network, for example --model resnet50:lpf4")
    if options.classes and options.classes != entry.num_classes:
        entry = replace(entry, num_classes=options.classes, classes=None, dataset="")
    structure: dict[str, Any] = dict(entry.structure)
    return create_model(entry.model, entry.filter_size, path, entry.num_classes, **structure), entry
