"""Targets for the student's maps: the teacher's maps, shifted to the positions of the student's.

A blur with an even number of taps shifts its map by half a pixel, and such shifts add up: the last map of a network
with five of these blurs is half a cell away from the teacher's. Compared cell by cell, the student would have to learn
to undo the shift. So each layer's displacement is measured once, and the teacher's map is interpolated at the positions
of the student's cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..evaluation import common_layers
from ..training import Execution


@dataclass(frozen=True)
class Match:
    """How one layer's maps are compared.

    Attributes:
        displacement: Displacement of the student's map relative to the teacher's, in image pixels; positive to the
            right and downwards.
        stride: Image pixels per cell of the map.
        scale: Variance of the teacher's map, by which squared differences are divided.
    """

    displacement: int
    stride: float
    scale: float


def run_with_maps(model: nn.Module, images: Tensor, layers: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """Run a model once and return its output and the named layers' outputs."""
    maps: dict[str, Tensor] = {}

    def keep(layer: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            maps[layer] = output

        return model.get_submodule(layer).register_forward_hook(hook)

    handles = [keep(layer) for layer in layers]
    try:
        return model(images), maps
    finally:
        for handle in handles:
            handle.remove()


def shifted(image: Tensor, shift: int, reach: int) -> Tensor:
    """Return the part of an image inside a border of ``reach`` pixels, taken ``shift`` pixels right and below."""
    height, width = (size - 2 * reach for size in image.shape[-2:])
    first = reach + shift
    return image[..., first : first + height, first : first + width]


@torch.no_grad()
def find_matches(
    student: nn.Module, teacher: nn.Module, images: Tensor, layers: Sequence[str] | None, reach: int, how: Execution
) -> dict[str, Match]:
    """Choose the layers, and measure the displacement of their maps.

    Args:
        student: See `distill`.
        teacher: See `distill`.
        images: A batch ``(N, C, H, W)``, of which each process gives its share.
        layers: Names of the layers; None chooses them, without those whose maps are too small for the shifts.
        reach: See `distill`.
        how: The processes; all find the same.

    Raises:
        ValueError: If the networks do not return ``(N, classes)`` for the same classes, a layer does not return maps of
            the same shape in both, or all maps are too small.
    """
    view = shifted(images, 0, reach)[:1]
    answers: list[Any] = [model(view) for model in (student, teacher)]
    found = [tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__ for answer in answers]
    # A softmax over one class is 1, whatever the network says.
    if isinstance(found[0], str) or found[0] != found[1] or len(found[0]) != 2 or found[0][1] == 1:
        raise ValueError(
            f"student and teacher return {found[0]} and {found[1]} for one image; both must return a tensor of logits "
            "(N, classes) for the same two classes or more: wrap a network that returns anything else in a module"
        )
    names = common_layers({"student": student, "teacher": teacher}, view) if layers is None else layers
    if not names:
        return {}
    measured = errors_by_displacement(student, teacher, images, names, reach)
    errors, moments = (how.total(means) / how.world for means in measured)
    variances = (moments[:, 1] - moments[:, 0].square()).clamp(min=1e-12).tolist()
    displacements = (errors.argmin(1) - reach).tolist()
    _, maps = run_with_maps(teacher, view, names)
    matches = {
        name: Match(displacement, view.shape[3] / maps[name].shape[3], variance)
        for name, displacement, variance in zip(names, displacements, variances, strict=True)
    }
    if layers is not None:
        return matches
    known = {name: known_cells(match, (-reach, reach), maps[name].shape[2:]) for name, match in matches.items()}
    large = {name: match for name, match in matches.items() if all(axis.start < axis.stop for axis in known[name])}
    if not large:
        raise ValueError(
            f"no layer's map of an image of {view.shape[3]} pixels is large enough for shifts of {reach} pixels: give "
            "larger images, a smaller reach, or layers=() to compare only predictions"
        )
    return large


def errors_by_displacement(
    student: nn.Module, teacher: nn.Module, images: Tensor, layers: Sequence[str], reach: int
) -> tuple[Tensor, Tensor]:
    """Return each layer's mean squared error for each displacement, and two moments of the teacher's map.

    Args:
        student: See `distill`.
        teacher: See `distill`.
        images: ``(N, C, H, W)``, with ``reach`` extra pixels at each border.
        layers: Names of modules of both.
        reach: The largest displacement to try, in pixels.

    Returns:
        Errors ``(layers, 2 * reach + 1)`` for -reach..reach, and moments ``(layers, 2)``, the map's mean and mean
        square; float64, on the CPU. All are means over these images, so with equal shares their averages over the
        processes are the batch's.

    Raises:
        ValueError: If a layer does not return maps of the same shape in both.
    """
    _, of_student = run_with_maps(student, shifted(images, 0, reach), layers)
    errors = torch.empty(len(layers), 2 * reach + 1, dtype=torch.float64)
    moments = torch.empty(len(layers), 2, dtype=torch.float64)
    for displacement in range(-reach, reach + 1):
        _, of_teacher = run_with_maps(teacher, shifted(images, displacement, reach), layers)
        for place, layer in enumerate(layers):
            mine, theirs = of_student.get(layer), of_teacher.get(layer)
            if mine is None or theirs is None or mine.dim() != 4 or mine.shape != theirs.shape:
                shapes = [None if x is None else tuple(x.shape) for x in (mine, theirs)]
                raise ValueError(
                    f"layer {layer!r} returns {shapes[0]} in the student and {shapes[1]} in the teacher, not a feature "
                    "map (N, channels, h, w) of the same shape in both: choose other layers, or layers=()"
                )
            # float(), since a tensor of a device without float64 (mps) cannot be copied into a float64 tensor.
            errors[place, reach + displacement] = float((mine.float() - theirs.float()).square().mean())
            if displacement == 0:
                moments[place, 0] = float(theirs.float().mean())
                moments[place, 1] = float(theirs.float().square().mean())
    return errors, moments


def known_cells(match: Match, shifts: Iterable[int], size: Sequence[int]) -> tuple[slice, slice]:
    """Return the rows and columns at which all of the teacher's shifted maps are known; empty if they are too small.

    Args:
        match: The layer's match.
        shifts: Shifts of the teacher's images, in pixels.
        size: Rows and columns of the layer's map.
    """
    cells = [(match.displacement - shift) / match.stride for shift in shifts]
    before, after = max(0, -math.floor(min(cells))), max(0, math.ceil(max(cells)))
    rows, columns = (slice(before, max(before, count - after)) for count in size)
    return rows, columns


def target(maps: Mapping[int, Tensor], match: Match) -> tuple[Tensor, tuple[slice, slice]]:
    """Return the mean of the teacher's maps at the student's positions, and the cells at which it is known.

    Args:
        maps: Shift of the teacher's image in pixels -> its map ``(N, C, h, w)``.
        match: The layer's match.

    Raises:
        ValueError: If no cell is left.
    """
    h, w = next(iter(maps.values())).shape[2:]
    known = known_cells(match, maps, (h, w))
    if any(axis.start == axis.stop for axis in known):
        raise ValueError(
            f"maps of {h} x {w} cells of {match.stride:g} pixels are too small for shifts of {tuple(maps)} pixels: "
            "give larger images or smaller shifts"
        )
    parts = [_interpolated(found, (match.displacement - shift) / match.stride, known) for shift, found in maps.items()]
    return torch.stack(parts).mean(0), known


def _interpolated(x: Tensor, cells: float, known: Sequence[slice]) -> Tensor:
    """The map, linearly interpolated ``cells`` to the right and below of the positions ``known``."""
    whole, part = math.floor(cells), cells - math.floor(cells)
    for axis, places in zip((-2, -1), known, strict=True):
        count = places.stop - places.start
        first = x.narrow(axis, places.start + whole, count)
        x = first if part == 0 else torch.lerp(first, x.narrow(axis, places.start + whole + 1, count), part)
    return x
