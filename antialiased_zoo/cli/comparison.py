"""The command ``compare``: the predictions of two networks for one photo, shifted pixel by pixel."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from ..errors import ZooError
from ..evaluation import (
    NamedModel,
    Options,
    ShiftProtocol,
    count_outputs,
    load_named,
    protocol_for,
    read_photo,
    shift_curves,
    split_label,
    with_room,
)
from ..metrics import Stability, diagonal_stability
from ..weights import Preprocessing
from ..zoo import ARCHITECTURES
from .output import say, say_json
from .specs import find, spec_of


@dataclass(frozen=True)
class Answers:
    """One network's predictions for the shifts of the photo.

    Attributes:
        model: The network's label.
        answer: The class predicted at the middle position.
        changed: Percentage of one-pixel steps that change the predicted class.
        wobble: Largest minus smallest probability of the shown class, in percent.
        probability: Probability of the shown class at each position.
    """

    model: str
    answer: str
    changed: float
    wobble: float
    probability: list[float]


def compare(options: argparse.Namespace) -> None:
    """Shift the photo, print the results, and draw them if requested.

    Raises:
        ValueError: A model, the photo, the label or the number of shifts is invalid.
    """
    photo = read_photo(options.photo)  # before any weights are fetched
    models = [_load(spec, options) for spec in options.models]
    if models[0].label == models[1].label:
        raise ValueError("both models have the same label: give different ones with LABEL=MODEL")
    protocols = [protocol_for(with_room(model.preprocessing or Preprocessing())) for model in models]
    shifts = _shifts(options.shifts, protocols)
    names = [_names(model, protocol) for model, protocol in zip(models, protocols, strict=True)]
    label = options.label or _followed(models[0], protocols[0], names[0], photo)
    found = [
        _answers(model, protocol, known, photo, shifts, label)
        for model, protocol, known in zip(models, protocols, names, strict=True)
    ]
    if options.json:
        say_json({"photo": options.photo, "shifts": shifts, "class": label, "models": [asdict(one) for one in found]})
    else:
        say(_table(found, options.photo, label, shifts))
    if options.plot:
        _draw(found, photo, label, options.plot)


def _load(spec: str, options: argparse.Namespace) -> NamedModel:
    """The network of a spec; a zoo network without a recipe gets the weights that the other commands choose."""
    label, rest = split_label(spec)
    name, _, tail = rest.partition(":")
    if name in ARCHITECTURES and ":" not in tail:
        try:
            rest = spec_of(find(rest))
        except ZooError:
            if tail != "baseline":
                raise
            rest = f"{rest}:torchvision"  # has the baselines that the manifest lacks
    return load_named(f"{label}={rest}" if label else rest, progress=not options.quiet)


def _shifts(wanted: int | None, protocols: Sequence[ShiftProtocol]) -> int:
    most = min(len(protocol.diagonal_offsets) - 1 for protocol in protocols)
    if wanted is not None and wanted > most:
        raise ValueError(f"--shifts must be 1 to {most} for these networks, got {wanted}")
    return wanted or most


def _names(model: NamedModel, protocol: ShiftProtocol) -> list[str]:
    """The names of a network's classes, or numbers if they have no names."""
    outputs = count_outputs(model.label, model.model, protocol.size, Options())
    return list(model.classes or (f"class {index}" for index in range(outputs)))


def _slide(
    model: NamedModel, protocol: ShiftProtocol, photo: Image.Image, shifts: int, followed: int | None = None
) -> Stability:
    """The network's predictions at each position around the centre."""
    first = (len(protocol.diagonal_offsets) - 1 - shifts) // 2
    offsets = protocol.diagonal_offsets[first : first + shifts + 1]
    canvas = protocol.padded(protocol.prepare(photo)[None])
    return diagonal_stability(model.model.eval(), canvas, followed, protocol.size, offsets)


def _followed(model: NamedModel, protocol: ShiftProtocol, names: Sequence[str], photo: Image.Image) -> str:
    return names[int(_slide(model, protocol, photo, 0).prediction)]


def _answers(
    model: NamedModel,
    protocol: ShiftProtocol,
    names: Sequence[str],
    photo: Image.Image,
    shifts: int,
    label: str,
) -> Answers:
    if label not in names:
        some = ", ".join(names[:5])
        raise ValueError(f"{model.label} has no class {label!r}, only {some} ...: choose another --label")
    found = _slide(model, protocol, photo, shifts, names.index(label))
    predicted, probability = found.prediction[0], found.probability[0].tolist()
    changed = 100 * float((predicted[1:] != predicted[:-1]).double().mean())
    wobble = 100 * (max(probability) - min(probability))
    return Answers(model.label, names[int(predicted[shifts // 2])], changed, wobble, probability)


def _table(found: Sequence[Answers], photo: str, label: str, shifts: int) -> str:
    width = max(len(one.model) for one in found)
    rows = [
        f'{Path(photo).name}, {shifts} steps of one pixel down and right; probability of "{label}"',
        f"{'':{width}}  {'changes':>8}  {'wobble':>7}  {'lowest':>7}  prediction in the middle",
    ]
    for one in found:
        changed, wobble, lowest = f"{one.changed:.1f}%", f"{one.wobble:.1f}%", f"{100 * min(one.probability):.1f}%"
        rows.append(f"{one.model:{width}}  {changed:>8}  {wobble:>7}  {lowest:>7}  {one.answer}")
    return "\n".join(rows)


def _draw(found: Sequence[Answers], photo: Image.Image, label: str, path: Path) -> None:
    curves = {one.model: (range(len(one.probability)), one.probability) for one in found}
    caption = "the photo, shifted down and right\none pixel at a time"
    ylabel = f'probability of "{label}"'
    shift_curves(curves, ylabel=ylabel, photo=photo, caption=caption).savefig(path, dpi=150)
