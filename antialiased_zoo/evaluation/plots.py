"""Plots of the measures, as matplotlib figures without global state: save them with ``savefig``."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colour-blind-safe palette; the first colour is for the baseline.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#555555")
# Marker shapes of groups of models, for readers and printers without colours.
_SHAPES = ("o", "s", "^", "D", "v", "P", "X")
# Plots with more models label only those on the Pareto front.
_NAMED = 12


def shift_curves(
    curves: Mapping[str, tuple[Sequence[float] | Tensor, Sequence[float] | Tensor]],
    title: str = "",
    xlabel: str = "diagonal shift (pixels)",
    ylabel: str = "probability of the class",
    photo: Any = None,
    caption: str = "",
) -> Figure:
    """Draws probability against shift, one line per model, with each line's wobble (max - min) in the legend.

    Args:
        curves: Label -> (shifts, probabilities in 0..1), of equal length.
        title: Title of the plot.
        xlabel: Label of the x axis.
        ylabel: Label of the y axis.
        photo: The shifted image, drawn at the left: a PIL image, an HWC array, or anything else that
            ``imshow`` accepts.
        caption: Caption of the photo.

    Raises:
        ValueError: There are no curves, or shifts and probabilities have different lengths.
        ImportError: matplotlib is not installed.

    Example:
        >>> figure = shift_curves({"baseline": ([0, 1, 2], [0.9, 0.2, 0.8])})
        >>> figure.savefig("shifts.png")  # doctest: +SKIP
    """
    if not curves:
        raise ValueError("no curves to draw: give {label: (shifts, probabilities)}")
    widths = (3.5, 7.5) if photo is not None else (7.5,)
    figure = _figure(sum(widths), 4.0)
    *left, axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    for beside in left:
        beside.imshow(photo)
        beside.set_axis_off()
        beside.set_title(caption, fontsize="medium")
    for index, (label, (shifts, values)) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        _draw_curve(axes, label, [float(shift) for shift in shifts], [float(value) for value in values], colour)
    axes.set_ylim(-0.02, 1.02)
    axes.margins(x=0.02)
    axes.set_title(title)
    _label(axes, xlabel, ylabel)
    # Above the curves, so that no line runs under it.
    figure.legend(loc="outside upper right", ncols=min(len(curves), 3), frameon=False)
    return figure


def accuracy_consistency(
    points: Mapping[str, tuple[float, float]],
    ylabel: str = "consistency (%)",
    errors: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] | None = None,
    groups: Mapping[str, str] | None = None,
) -> Figure:
    """Draws accuracy against consistency; models on the Pareto front are filled and joined by a line.

    With more than a dozen models only those on the front are labelled.

    Args:
        points: Label -> (accuracy, consistency).
        ylabel: Label of the y axis; state whether crop or circular.
        errors: Label -> ((lowest, highest accuracy), (lowest, highest consistency)), drawn as error
            bars.
        groups: Label -> group of models; each group has a colour and a marker, shown in a legend.
            Default: one colour for each model.

    Raises:
        ValueError: There are no points.
        ImportError: matplotlib is not installed.
    """
    if not points:
        raise ValueError("no models to draw: give {label: (accuracy, consistency)}")
    front = pareto_front(points)
    figure = _figure(6.5, 5.0)
    axes = figure.add_subplot()
    x_front, y_front = zip(*(points[label] for label in front), strict=True)
    axes.plot(x_front, y_front, color="#999999", linestyle="--", zorder=1)
    kind_of = groups or {label: label for label in points}
    kinds = dict.fromkeys(kind_of[label] for label in points)
    styles = dict(zip(kinds, zip(itertools.cycle(COLOURS), itertools.cycle(_SHAPES if groups else "o")), strict=False))
    for label, (x, y) in points.items():
        colour, shape = styles[kind_of[label]]
        if errors and label in errors:
            horizontal, vertical = errors[label]
            axes.hlines(y, *horizontal, color=colour, alpha=0.5)
            axes.vlines(x, *vertical, color=colour, alpha=0.5)
        fill = colour if label in front else "white"
        axes.scatter(x, y, s=60, color=fill, edgecolors=colour, linewidths=2, marker=shape, zorder=3)
    if groups:
        for name, (colour, shape) in styles.items():
            axes.scatter([], [], s=60, color=colour, marker=shape, label=name)
        figure.legend(loc="outside upper right", ncols=len(kinds), frameon=False)
    axes.margins(0.18)
    _label(axes, "top-1 accuracy (%)", ylabel)
    figure.supxlabel("filled, dashed: Pareto front", x=0.98, ha="right", color="#666666", fontsize="small")
    named = [label for label in points if len(points) <= _NAMED or label in front]
    _name_points(figure, axes, points, {label: styles[kind_of[label]][0] for label in named})
    return figure


def _name_points(
    figure: Figure, axes: Axes, points: Mapping[str, tuple[float, float]], colours: Mapping[str, str]
) -> None:
    """Writes labels beside their points, each where it covers the fewest others and points."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # settles the layout: only then have texts a place
    centres = axes.transData.transform(list(points.values()))
    taken = [Bbox.from_bounds(x - 8, y - 8, 16, 16) for x, y in centres.tolist()]

    def covered(text: Any) -> int:
        box = text.get_window_extent()
        inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
        return int(box.count_overlaps(taken)) + (0 if inside else len(taken) + 1)

    for label, colour in colours.items():
        tried = []
        for x, y in ((7, 5), (7, -5), (-7, 5), (-7, -5), (0, 9), (0, -9)):
            side = "center" if x == 0 else "left" if x > 0 else "right"
            sides: dict[str, Any] = {"ha": side, "va": "bottom" if y > 0 else "top"}
            text = axes.annotate(label, points[label], (x, y), textcoords="offset points", color=colour, **sides)
            text.set_in_layout(False)  # so that the places found here stay
            tried.append(text)
        best = min(tried, key=covered)
        taken.append(best.get_window_extent())
        for text in tried:
            if text is not best:
                text.remove()


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Returns the labels of the points that no other point dominates, sorted by the first number.

    Example:
        >>> pareto_front({"a": (70, 90), "b": (71, 89), "c": (69, 89)})
        ['a', 'b']
    """
    best = [label for label, point in points.items() if not any(_beats(p, point) for p in points.values())]
    return sorted(best, key=lambda label: points[label])


def _beats(other: tuple[float, float], point: tuple[float, float]) -> bool:
    return other[0] >= point[0] and other[1] >= point[1] and tuple(other) != tuple(point)


def distance_maps(maps: Mapping[str, Mapping[str, Tensor]], title: str = "") -> Figure:
    """Draws feature distance over a grid of shifts: a row per layer (with its own scale), a column per model.

    Args:
        maps: Model -> layer -> distances ``(rows, columns)`` for shifts from 0 on; the same layers
            for every model.
        title: Title of the plot.

    Raises:
        ValueError: There are no maps, or the models have different layers.
        ImportError: matplotlib is not installed.
    """
    layers = [list(of_model) for of_model in maps.values()]
    if not layers or not layers[0] or any(names != layers[0] for names in layers):
        raise ValueError(f"expected the same one or more layers for every model, got {layers}")
    figure = _figure(0.9 + 2.3 * len(maps), 0.9 + 2.1 * len(layers[0]))
    grid = figure.subplots(len(layers[0]), len(maps), squeeze=False)
    for line, layer in zip(grid, layers[0], strict=True):
        highest = max(float(of_model[layer].max()) for of_model in maps.values())
        for axes, (label, of_model) in zip(line, maps.items(), strict=True):
            values = of_model[layer]
            # If all distances are 0, the scale must still not be empty.
            scale = {"vmin": 0, "vmax": highest or 1, "cmap": "magma"}
            shown = axes.imshow(values.tolist(), origin="lower", **scale)
            axes.set_title(f"{label}\n{layer}: mean {float(values.mean()):.3f}", fontsize="small")
        figure.colorbar(shown, ax=list(line), shrink=0.85)
    figure.suptitle(title)
    figure.supxlabel("shift right (pixels)", fontsize="medium")
    figure.supylabel("shift down (pixels)", fontsize="medium")
    return figure


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'antialiased-zoo[plot]'") from error
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _draw_curve(axes: Axes, label: str, shifts: list[float], values: list[float], colour: str) -> None:
    if len(shifts) != len(values) or not values:
        raise ValueError(f"{label}: {len(shifts)} shifts but {len(values)} probabilities; give one for each")
    text = f"{label} (wobble {max(values) - min(values):.2f})"
    axes.fill_between(shifts, min(values), max(values), color=colour, alpha=0.10, linewidth=0)
    axes.plot(shifts, values, color=colour, linewidth=2, marker="o", markersize=3.5, label=text)


def _label(axes: Axes, xlabel: str, ylabel: str) -> None:
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
