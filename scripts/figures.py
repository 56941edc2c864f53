"""Draw the docs' pictures: python scripts/figures.py [--out docs/pictures] [--only NAME ...].

Every picture is computed by this package's layers or networks; nothing is drawn by hand.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from running import run_script
from torch import Tensor

import antialiased_zoo as az
from antialiased_zoo.cli.demo import CURVE, LABELS, MODEL, photo_path
from antialiased_zoo.evaluation import class_labels, protocol_for, read_photo
from antialiased_zoo.evaluation.plots import COLOURS
from antialiased_zoo.metrics import diagonal_stability
from antialiased_zoo.training import made_folder

PLAIN, BLURRED = COLOURS[:2]
_FONT = 13  # readable at half the width


def max_pooling() -> Figure:
    """A signal and the same signal one step later, through a max pool and through max-blur-pooling."""
    signal = torch.tensor([0.0, 0, 1, 1]).repeat(8)
    pools: dict[str, Callable[[Tensor], Tensor]] = {
        "max pool, stride 2": lambda x: torch.nn.functional.max_pool1d(x, 2, 2),
        "maximum, blur, stride 2": lambda x: az.max_blur_pool1d(x, 2, stride=2, filt_size=3),
    }
    figure = _figure(9, 4.2)
    for row, (moved, text) in enumerate(((0, "the signal"), (1, "one step later"))):
        x = signal.roll(moved)
        panels = {text: x[8:-8]}  # without the borders, as the pools' below
        panels |= {name: pool(x[None, None])[0, 0, 4:-4] for name, pool in pools.items()}
        for column, (name, values) in enumerate(panels.items()):
            axes = figure.add_subplot(2, 3, 3 * row + column + 1)
            colour = ("#555555", PLAIN, BLURRED)[column]
            axes.stem(range(len(values)), values, linefmt=colour, markerfmt="o", basefmt=" ")
            axes.set_ylim(-0.1, 1.2)
            axes.set_xticks([])
            axes.set_yticks([0, 1])
            if row == 0 or column == 0:
                axes.set_title(name, fontsize=_FONT, color=colour)
    return figure


def zone_plate() -> Figure:
    """Rings of growing frequency, every fourth pixel of them, and the same after a blur."""
    axis = torch.arange(-128, 128)
    finest = 0.45  # cycles per pixel, in the middle of each side
    image = torch.cos(torch.pi * finest / 128 * (axis[:, None] ** 2 + axis[None] ** 2))[None, None]
    plain, blurred = image, image
    for _ in range(2):
        plain = plain[..., ::2, ::2]
        blurred = az.Downsample(channels=1, filt_size=5, stride=2)(blurred)
    figure = _figure(9, 3.4)
    for column, (name, values) in enumerate(
        {"rings, ever finer": image, "every fourth pixel": plain, "blurred, then every fourth": blurred}.items()
    ):
        axes = figure.add_subplot(1, 3, column + 1)
        axes.imshow(values[0, 0], cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        axes.set_title(name, fontsize=_FONT, color=("#555555", PLAIN, BLURRED)[column])
        axes.set_axis_off()
    return figure


def responses() -> Figure:
    """The filters' frequency responses; frequencies above a quarter alias at stride 2."""
    figure = _figure(7, 4)
    axes = figure.add_subplot()
    frequency = torch.linspace(0, 0.5, 200)
    for place, size in enumerate((2, 3, 4, 5)):
        taps = torch.tensor(az.binomial_taps(size))
        places = torch.arange(size) - (size - 1) / 2
        gain = (taps / taps.sum() * torch.cos(2 * torch.pi * frequency[:, None] * places)).sum(1).abs()
        name = ("Rect-2", "Tri-3", "Tri-4", "Bin-5")[place]
        axes.plot(frequency, gain, color=COLOURS[place], linewidth=2.5, label=name)
    axes.axhline(1, color="#555555", linestyle=":", label="no blur")
    axes.axvspan(0.25, 0.5, color="#dddddd", zorder=0)
    axes.text(0.375, 0.92, "folds back\nat stride 2", ha="center", va="top", fontsize=_FONT)
    axes.set_xlabel("frequency (cycles per pixel)", fontsize=_FONT)
    axes.set_ylabel("share let through", fontsize=_FONT)
    axes.set_xlim(0, 0.5)
    axes.set_ylim(0, 1.05)
    axes.legend(frameon=False, fontsize=_FONT - 1, loc="lower left")
    return figure


def sliding() -> list[Image.Image]:
    """The demo's photo shifts one pixel at a time, and the curves of both networks are drawn along."""
    entry = az.get_entry(MODEL, 4)
    protocol, names = protocol_for(entry.preprocessing), class_labels(entry)
    canvas = protocol.prepare(read_photo(photo_path(CURVE)))
    shifts = protocol.diagonal_offsets
    models = {text: az.create_model(MODEL, size, pretrained=True).eval() for size, text in LABELS.items()}
    baseline = next(iter(models.values()))
    x = protocol.normalise(canvas[None])
    wanted = diagonal_stability(baseline, x, None, protocol.size, shifts).prediction[:, len(shifts) // 2]
    curves = {
        label: diagonal_stability(model, x, wanted, protocol.size, shifts).probability[0].tolist()
        for label, model in models.items()
    }
    name = names[int(wanted)]
    return [_frame(canvas, protocol.size, list(shifts), curves, place, name) for place in range(len(shifts))]


def _frame(
    canvas: Tensor, size: int, shifts: list[int], curves: dict[str, list[float]], place: int, name: str
) -> Image.Image:
    figure = _figure(7.2, 3)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.5))
    corner = shifts[place]
    left.imshow(canvas[:, corner : corner + size, corner : corner + size].permute(1, 2, 0))
    left.set_axis_off()
    for index, (label, values) in enumerate(curves.items()):
        right.plot(shifts[: place + 1], values[: place + 1], color=COLOURS[index], linewidth=2.5, label=label)
    right.set_xlim(shifts[0], shifts[-1])
    right.set_ylim(0, 1)
    right.set_xlabel("shift (pixels)", fontsize=_FONT)
    right.set_ylabel(f'probability of "{name}"', fontsize=_FONT - 2)
    right.legend(frameon=False, fontsize=_FONT - 2, loc="lower left")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=80)
    return Image.open(buffer).convert("RGB")


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


PICTURES: dict[str, Callable[[], Any]] = {
    "max_pooling": max_pooling,
    "zone_plate": zone_plate,
    "responses": responses,
    "sliding": sliding,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=list(PICTURES))
    options = parser.parse_args()
    made_folder(options.out)
    for name in options.only:
        drawn = PICTURES[name]()
        if isinstance(drawn, Figure):
            drawn.savefig(options.out / f"{name}.png", dpi=110)
        else:
            first, *others = drawn
            first.save(
                options.out / f"{name}.webp", save_all=True, append_images=others, duration=120, loop=0, quality=70
            )


if __name__ == "__main__":
    run_script(main)
