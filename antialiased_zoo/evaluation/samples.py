"""Measures on a few images instead of a data set: feature distance maps and stability curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..metrics import diagonal_stability, evaluating, feature_distance, layer_outputs
from .images import CorruptImageError, LabelledImages
from .protocols import ShiftProtocol


def sample_canvases(
    images: LabelledImages, indices: Sequence[int], protocol: ShiftProtocol, device: torch.device
) -> Tensor:
    """Returns some images as the protocol's padded canvases, float32 ``(N, 3, H, W)``; N may be smaller.

    Images that cannot be decoded are left out, as in `evaluate`.

    Raises:
        CorruptImageError: None of them can be decoded.
    """
    canvases: list[Tensor] = []
    for index in indices:
        try:
            canvases.append(protocol.prepare(images.image(index)))
        except CorruptImageError as error:
            last = error
    if not canvases:
        raise last
    return protocol.padded(torch.stack(canvases).to(device))


def feature_maps(
    models: Mapping[str, nn.Module],
    canvases: Tensor,
    protocol: ShiftProtocol,
    grid: int = 8,
    layers: Sequence[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Returns internal feature distance, averaged over images, for shifts of 0 .. grid-1 pixels along each axis.

    Args:
        models: Label -> model; all must have the named layers.
        canvases: Canvases from :func:`sample_canvases`.
        protocol: The canvases' protocol.
        grid: Number of shifts along each axis.
        layers: Names of layers. Default: those of :func:`common_layers`.

    Returns:
        Label -> layer -> ``mean`` (rows, then columns), ``n`` images, ``rows`` and ``columns`` in
        pixels.
    """
    inner = slice(protocol.centre, protocol.centre + protocol.size)
    centres = canvases[:, :, inner, inner]
    chosen = chosen_layers(models, centres[:1], layers)
    shifts = list(range(grid))
    return {
        label: {
            layer: {"mean": distances.mean(0).tolist(), "n": len(centres), "rows": shifts, "columns": shifts}
            for layer, distances in feature_distance(model, centres, chosen, shifts, shifts).items()
        }
        for label, model in models.items()
    }


def stability_curves(
    models: Mapping[str, nn.Module], canvas: Tensor, target: int, protocol: ShiftProtocol
) -> dict[str, dict[str, list[float]]]:
    """Returns label -> ``offsets`` and the ``probability`` of an image's class at each diagonal shift."""
    found = {
        label: diagonal_stability(model, canvas, target, protocol.size, protocol.diagonal_offsets)
        for label, model in models.items()
    }
    return {
        label: {"offsets": list(curve.offsets), "probability": curve.probability[0].tolist()}
        for label, curve in found.items()
    }


def chosen_layers(models: Mapping[str, nn.Module], image: Tensor, layers: Sequence[str] | None = None) -> Sequence[str]:
    """Returns the layers that `feature_maps` measures: the named ones, or those of `common_layers`.

    Raises:
        ValueError: A model has no such layer, its output is no feature map, or the models share none.
    """
    if not layers:
        return common_layers(models, image)
    for label, model in models.items():
        try:
            with evaluating(model):
                layer_outputs(model, image, layers)
        except ValueError as error:
            raise ValueError(f"{label}: {error}") from error
    return layers


def common_layers(models: Mapping[str, nn.Module], image: Tensor, count: int = 4) -> list[str]:
    """Returns up to ``count`` layers that all models have, spread over the depth; stages if there are any.

    Their maps have the same height and width in all: a strided convolution whose blur comes later is left out.

    Raises:
        ValueError: The models share no layer with a feature map.
    """
    mapped = [_mapped_layers(model, image) for model in models.values()]
    shared = [name for name, size in mapped[0].items() if all(sizes.get(name) == size for sizes in mapped[1:])]
    if not shared:
        raise ValueError("the models share no layer with a feature map; name layers, or measure them separately")
    modules = dict(next(iter(models.values())).named_modules())
    for depth in (0, 1):
        level = [name for name in shared if name.count(".") == depth]
        stages = [name for name in level if list(modules[name].children())]
        if len(stages) > 1 or depth == 1:
            shared = (stages if len(stages) > 1 else level) or shared
            break
    # The last of each of `count` equal parts, so that the deepest is included.
    return [shared[len(shared) * (part + 1) // count - 1] for part in range(count)] if len(shared) > count else shared


def _mapped_layers(model: nn.Module, image: Tensor) -> dict[str, torch.Size]:
    """Returns the modules whose output is a feature map, with its size, in the order in which they finish."""
    sizes: dict[str, torch.Size] = {}

    def note(name: str, output: object) -> None:
        if name and isinstance(output, Tensor) and output.dim() == 4 and min(output.shape[2:]) > 1:
            sizes[name] = output.shape[2:]

    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name, module in model.named_modules()
    ]
    try:
        with evaluating(model):
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return sizes
