"""The demo: predictions of two ImageNet networks for photos shifted pixel by pixel, without downloads.

The statistics were chosen before they were measured, and are the headline; the curve of one photo
illustrates them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..evaluation import ShiftProtocol, class_labels, protocol_for, read_photo, shift_curves
from ..inference import for_inference
from ..metrics import Figure, Stability, average, diagonal_stability
from ..weights import get_entry
from ..zoo import create_model

MODEL = "efficientnet_lite0"
LABELS = {None: "baseline", 4: "antialiased (Tri-4)"}
#: All photographs in scikit-image's wheel that are in the public domain or CC0, according to its
#: documentation.
PHOTOS = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png"),
    *("grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "retina.jpg", "rocket.jpg"),
)
#: The photo of the curve: the cat Chelsea, by Stéfan van der Walt.
CURVE = "chelsea.png"
# Relative side of the square view in each corner of a photo; the fifth view is the central square.
_CORNER = 0.7
# The middle ones of the protocol's 33 positions.
_POSITIONS = range(12, 21)


@dataclass(frozen=True)
class Judgement:
    """One network's statistics: one number for each photo, averaged over one-pixel steps and views.

    Attributes:
        changed: Share of one-pixel steps that change the predicted class.
        step: Mean absolute change per step of the probability of the class predicted in the middle.
    """

    changed: Sequence[float]
    step: Sequence[float]


def photo_path(name: str) -> Path:
    """The path of one of scikit-image's photos.

    Raises:
        ModuleNotFoundError: If scikit-image is not installed; the message says how to install it.
    """
    try:
        import skimage
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'the demo\'s photos come with scikit-image: pip install "antialiased-zoo[demo]"'
        ) from None
    return Path(skimage.__file__).parent / "data" / name


def views(photo: Image.Image) -> list[Image.Image]:
    """The central square, and a smaller square in each corner."""
    width, height = photo.size
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    side = round(_CORNER * short)
    corners = [(x, y) for x in (0, width - side) for y in (0, height - side)]
    squares = [(left, top, left + short, top + short), *((x, y, x + side, y + side) for x, y in corners)]
    return [photo.crop(square) for square in squares]


def judge(model: nn.Module, photos: Sequence[Image.Image], protocol: ShiftProtocol, progress: bool) -> Judgement:
    """Measure a network's statistics on the shifts of all views of all photos.

    Args:
        model: An ImageNet network.
        photos: Photos of any size.
        protocol: The protocol of the weights.
        progress: Show a progress bar.
    """
    changed, steps = [], []
    for photo in tqdm(photos, "judging", disable=None if progress else True, leave=False):
        found = _slide(model, views(photo), protocol, _POSITIONS)
        other = found.prediction[:, 1:] != found.prediction[:, :-1]
        changed.append(float(other.double().mean()))
        steps.append(float(found.probability.double().diff(dim=1).abs().mean()))
    return Judgement(changed, steps)


def _slide(
    model: nn.Module, images: Sequence[Image.Image], protocol: ShiftProtocol, offsets: range, wanted: int = -1
) -> Stability:
    canvases: Tensor = protocol.normalise(torch.stack([protocol.prepare(image) for image in images]))
    classes = None if wanted < 0 else torch.tensor([wanted])
    # Small batches: larger maps would be newly allocated each time, which costs more than it saves.
    return diagonal_stability(model, canvases, classes, protocol.size, offsets, batch_size=4)


def figures(judgements: Mapping[str, Judgement]) -> dict[str, dict[str, Figure]]:
    """Each network's two statistics in percent, and the paired difference of the second and the first network."""
    found = {
        label: {name: average(getattr(one, name)).times(100) for name in ("changed", "step")}
        for label, one in judgements.items()
    }
    first, second = judgements.values()
    found["difference"] = {
        name: average(
            [b - a for a, b in zip(getattr(first, name), getattr(second, name), strict=True)], lowest=-1.0
        ).times(100)
        for name in ("changed", "step")
    }
    return found


def table(found: Mapping[str, Mapping[str, Figure]]) -> str:
    """The statistics as text."""
    width = max(map(len, found))
    rows = [f"{'':{width}}  {'answers changed (%)':>24}  {'step of probability (%)':>24}"]
    for label, of in found.items():
        cells = [f"{f.value:.2f} [{f.low:.2f}, {f.high:.2f}]" for f in of.values()]
        rows.append(f"{label:{width}}  {cells[0]:>24}  {cells[1]:>24}")
    return "\n".join(rows)


def run(photo: str | os.PathLike[str] | None, label: str | None, output: str | os.PathLike[str]) -> str:
    """Measure the statistics, write the picture, and return the table.

    Args:
        photo: The image file of the curve; None for the cat Chelsea.
        label: The class whose probability the curve shows; None for the baseline's prediction.
        output: The picture file to write.

    Raises:
        ValueError: If there is no such class, or an image cannot be read.
    """
    shown = read_photo(photo_path(CURVE) if photo is None else photo)
    entry = get_entry(MODEL, 4)
    protocol, names = protocol_for(entry.preprocessing), list(class_labels(entry))
    # Copies for inference take half the time.
    models = {text: for_inference(create_model(MODEL, size, pretrained=True)) for size, text in LABELS.items()}
    wanted = _class(label, names) if label is not None else _answer(models[LABELS[None]], shown, protocol)
    photos = [read_photo(photo_path(name)) for name in PHOTOS]
    found = figures({text: judge(model, photos, protocol, progress=True) for text, model in models.items()})
    _draw(models, shown, wanted, names[wanted], protocol, found, output)
    note = f"{len(PHOTOS)} photos, 5 views of each, {len(_POSITIONS) - 1} steps of one pixel; 95% intervals over photos"
    return f"{table(found)}\n{note}"


def _class(label: str, names: Sequence[str]) -> int:
    if label not in names:
        some = ", ".join(names[281:286])
        raise ValueError(f"label {label!r} is not one of ImageNet's 1000 classes, for example {some}")
    return names.index(label)


def _answer(model: nn.Module, photo: Image.Image, protocol: ShiftProtocol) -> int:
    return int(_slide(model, [photo], protocol, range(protocol.centre, protocol.centre + 1)).prediction)


def _draw(
    models: Mapping[str, nn.Module],
    photo: Image.Image,
    wanted: int,
    name: str,
    protocol: ShiftProtocol,
    found: Mapping[str, Mapping[str, Figure]],
    output: str | os.PathLike[str],
) -> None:
    shifts = protocol.diagonal_offsets
    curves = {
        label: (shifts, _slide(model, [photo], protocol, shifts, wanted).probability[0].tolist())
        for label, model in models.items()
    }
    headlines = []
    for text, kind in (
        ("steps of one pixel that change the answer", "changed"),
        ("mean step of the probability", "step"),
    ):
        before, after = (found[label][kind] for label in models)
        headlines.append(f"{text}: {_interval(before)} to {_interval(after)}")
    title = "\n".join([*headlines, f"({len(PHOTOS)} photos, baseline to antialiased); one of them:"])
    figure = shift_curves(
        curves,
        title=title,
        ylabel=f'probability of "{name}"',
        photo=photo,
        caption="the photo, shifted down and right\none pixel at a time",
    )
    figure.savefig(output, dpi=150, metadata={"Title": title})  # the README's test reads it


def _interval(figure: Figure) -> str:
    return f"{figure.value:.1f}% [{figure.low:.1f}, {figure.high:.1f}]"
