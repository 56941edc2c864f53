"""Reports: an evaluation's figures as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .probes import TITLES


def markdown_table(figures: Mapping[str, Mapping[str, Mapping[str, Any]]], notes: Sequence[str] = ()) -> str:
    """Returns a row per model with value and 95% interval in percent, then the notes.

    Args:
        figures: Model -> figure's name -> value, low, high, n.
        notes: One line each, such as the protocol and the command.

    Example:
        >>> figure = {"value": 71.234, "low": 70.8, "high": 71.6, "n": 50000}
        >>> print(markdown_table({"resnet18": {"top1": figure}}, ["ImageNet, n = 50000"]))
        | model | top-1 (%) |
        | --- | --- |
        | resnet18 | 71.23 [70.80, 71.60] |
        <BLANKLINE>
        * ImageNet, n = 50000
        <BLANKLINE>
    """
    columns = [name for name in TITLES if any(name in of_model for of_model in figures.values())]
    lines = [
        _row(["model", *(f"{TITLES[name]} (%)" for name in columns)]),
        _row(["---"] * (len(columns) + 1)),
        *(_row([label, *(_cell(of_model.get(name)) for name in columns)]) for label, of_model in figures.items()),
        "",
        *(f"* {note}" for note in notes),
        "",
    ]
    return "\n".join(lines)


def result_notes(label: str, result: Mapping[str, Any]) -> list[str]:
    """Returns the notes of one model's result: paired differences, ImageNet-C and ImageNet-P.

    Args:
        label: The model's label.
        result: The result; it may have ``differences``, ``imagenet_c`` and ``imagenet_p``, as in the
            JSON of ``scripts/evaluate.py``.
    """
    notes = []
    changes = {TITLES[name]: figure for name, figure in result.get("differences", {}).items() if name in TITLES}
    if changes:
        listed = (f"{name} {f['value']:+.2f} [{f['low']:+.2f}, {f['high']:+.2f}]" for name, f in changes.items())
        first = next(iter(changes.values()))["to"]
        notes.append(f"{label} against {first}, image by image: {', '.join(listed)}")
    if "imagenet_c" in result:
        errors = result["imagenet_c"]
        mce = "no mCE (corruptions missing)" if errors["mce"] is None else f"mCE {errors['mce']:.2f}"
        notes.append(f"{label} on ImageNet-C: mean error {errors['mean_error']:.2f} (not normalised), {mce}")
    if "imagenet_p" in result:
        notes.append(f"{label} on ImageNet-P: mean flip rate {result['imagenet_p']['mean']:.2f} (not normalised)")
    return notes


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "-"
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"
