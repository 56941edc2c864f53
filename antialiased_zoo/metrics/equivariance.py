"""Shift equivariance: internal feature distance, and the stability of generators.

All shifts are circular, so that content leaving on one side does not count as an error.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .running import Model, evaluating
from .shifts import take


def feature_distance(
    model: nn.Module, images: Tensor, layers: Sequence[str], rows: Sequence[int], columns: Sequence[int]
) -> dict[str, Tensor]:
    """Returns the internal feature distance of each layer over a grid of shifts (Zhang 2019).

    For each shift: the cosine distance over channels between shift(F(x)) and F(shift(x)), averaged
    over positions. F(x) is the layer's output upsampled to the image's size by repetition, so that
    shifts below the layer's stride are defined.

    Args:
        model: Any module; it is put in evaluation mode meanwhile.
        images: ``(N, C, H, W)``.
        layers: Names as in ``model.named_modules()``; their outputs must be
            ``(N, channels, h, w)``.
        rows: Row offsets in pixels.
        columns: Column offsets in pixels.

    Returns:
        Layer -> distances in 0..2, float32 ``(N, rows, columns)``.

    Raises:
        ValueError: A layer does not exist, or its output is not a feature map.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"))
        >>> distance = feature_distance(model, torch.rand(1, 3, 8, 8), ["0"], range(2), range(2))["0"]
        >>> distance.shape, bool(distance.max() < 1e-6)
        (torch.Size([1, 2, 2]), True)
    """
    size = (images.shape[2], images.shape[3])
    found: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    with evaluating(model):
        still = layer_outputs(model, images, layers)
        for shift in itertools.product(rows, columns):
            moved = layer_outputs(model, images.roll(shift, (2, 3)), layers)
            for layer, distances in found.items():
                distances.append(moved_distance(still[layer], moved[layer], shift, size))
    grid = (len(images), len(rows), len(columns))
    return {layer: torch.stack(values, dim=1).view(grid) for layer, values in found.items()}


def layer_outputs(model: nn.Module, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Runs the model once and returns the named layers' feature maps; see :func:`feature_distance`."""
    modules = dict(model.named_modules())
    missing = [layer for layer in layers if layer not in modules]
    if missing or not layers:
        known = ", ".join(name for name in modules if name.count(".") < 2 and name)
        raise ValueError(f"no layers named {missing or 'anything'} in the model; it has {known}")
    outputs: dict[str, Tensor] = {}

    def keep(layer: str, module: nn.Module, _: object, output: Tensor) -> None:
        outputs[layer] = output

    hooks = [modules[layer].register_forward_hook(functools.partial(keep, layer)) for layer in layers]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    for layer in layers:
        output = outputs.get(layer)
        if not isinstance(output, Tensor) or output.dim() != 4:
            raise ValueError(f"layer {layer} does not return a (N, channels, h, w) tensor; name a convolutional layer")
    return outputs


def moved_distance(still: Tensor, moved: Tensor, shift: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Returns the mean cosine distance between a moved feature map and the map of the moved image, ``(N,)``.

    Equal to upsampling both maps to the image's size by repetition, rolling the first, and averaging
    the distance over pixels. Each pair of positions is computed once and weighted by its pixels.

    Args:
        still: F(x), ``(N, channels, h, w)``.
        moved: F(shift(x)), of the same shape.
        shift: Rows and columns, in pixels.
        size: Height and width of the image.
    """
    (rows, moved_rows, row_weight), (columns, moved_columns, column_weight) = (
        _compared(still.shape[axis + 2], size[axis], shift[axis], still.device) for axis in (0, 1)
    )
    count = len(still)
    first = take(still.float(), rows.expand(count, -1), columns.expand(count, -1))
    second = take(moved.float(), moved_rows.expand(count, -1), moved_columns.expand(count, -1))
    distance = 1 - F.cosine_similarity(first, second, dim=1)
    # Two all-zero positions are equal, but cosine_similarity gives 0 for them.
    silent = (first == 0).all(dim=1) & (second == 0).all(dim=1)
    return torch.einsum("nrc,r,c->n", distance.masked_fill(silent, 0), row_weight, column_weight)


def _compared(cells: int, pixels: int, shift: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the pairs of cells of F(x) and F(shift(x)) to compare along one axis, and their shares of pixels."""
    pixel = torch.arange(pixels, device=device)
    still, moved = (pixel - shift) % pixels * cells // pixels, pixel * cells // pixels
    pairs, times = torch.unique(still * cells + moved, return_counts=True)
    return pairs // cells, pairs % cells, times.float() / pixels


def generation_stability(
    generator: Model,
    images: Tensor,
    shifts: Sequence[tuple[int, int]],
    data_range: float = 1.0,
    border: int = 0,
) -> Tensor:
    """Returns the PSNR between the output for a shifted input and the shifted output (Zhang 2019).

    Args:
        generator: Maps ``(N, C, H, W)`` to images of the same height and width.
        images: Inputs, ``(N, C, H, W)``.
        shifts: Rows and columns in pixels.
        data_range: Difference between the largest and the smallest possible output value.
        border: Pixels to leave out at each side, where the outputs of a zero-padded generator
            necessarily differ.

    Returns:
        Decibels, float32 ``(N, shifts)``; infinite where the two are equal.

    Raises:
        ValueError: The outputs have another size than the inputs.
    """
    inner, results = slice(border, -border or None), []
    with evaluating(generator):
        generated = generator(images)
        if generated.shape[2:] != images.shape[2:]:
            raise ValueError(
                f"the generator maps {tuple(images.shape[2:])} to {tuple(generated.shape[2:])}; "
                "stability is defined for outputs as large as the inputs"
            )
        for shift in shifts:
            moved, expected = generator(images.roll(shift, (2, 3))), generated.roll(shift, (2, 3))
            results.append(psnr(moved[..., inner, inner], expected[..., inner, inner], data_range))
    return torch.stack(results, dim=1)


def psnr(first: Tensor, second: Tensor, data_range: float = 1.0) -> Tensor:
    """Returns the peak signal-to-noise ratio in decibels of each image pair ``(N, ...)``, float32 ``(N,)``.

    Example:
        >>> psnr(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.1)).item()
        20.0
    """
    error = (first.float() - second.float()).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(data_range**2 / error)
