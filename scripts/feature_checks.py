"""Check that antialiasing lowers an untrained network's internal feature distance after each downsampling."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

import antialiased_zoo as az
from antialiased_zoo.metrics.equivariance import feature_distance

#: Circular shifts in pixels: all pairs of a row offset and a column offset.
ROWS, COLUMNS = (0, 3), (1, 6)
SIZE, ONE_SIZE = 96, 224
PHOTOS = 4


@dataclass
class Distances:
    """Internal feature distances of one network.

    Attributes:
        name: The network's name.
        layers: Module -> (original, antialiased): mean distance over photos and shifts, for modules with a blur before
            or after them, or replaced by one; in the order of the dataflow.
        faults: What went wrong, in words.
    """

    name: str
    layers: dict[str, tuple[float, float]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def risen(self) -> list[str]:
        """Layers at which the distance is not lower."""
        return [layer for layer, (before, after) in self.layers.items() if not after < before]


def distances(name: str, build: Callable[[], nn.Module], photos: Path) -> Distances:
    """Measure one network, unchanged and with filter size 4.

    Weights are the builder's random ones. Each network's batch norms use their statistics on the photos, since the
    signal would vanish with an untrained network's. Blurs are attached to modules (``graph=False``).
    """
    torch.manual_seed(0)
    model = build().eval()
    layers = list(dict.fromkeys(site.placement.host for site in az.plan(model).treated if site.placement))
    if not layers:
        return Distances(name)
    try:
        return Distances(name, _measured(model, layers, read(photos)))
    except RuntimeError:  # it accepts only one size
        return Distances(name, _measured(model, layers, read(photos, ONE_SIZE)))


def _measured(model: nn.Module, layers: list[str], images: Tensor) -> dict[str, tuple[float, float]]:
    means = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some have no batch norm
        for network in (model, az.antialias(model)):
            az.recalibrate(network, [images], progress=False)
            found = feature_distance(network, images, layers, ROWS, COLUMNS)
            means.append({layer: float(distance.mean()) for layer, distance in found.items()})
    return {layer: (means[0][layer], means[1][layer]) for layer in layers}


def read(photos: Path, size: int = SIZE) -> Tensor:
    """The photos to measure on, evenly spaced in the archive: ``(N, 3, size, size)``, normalised as for ImageNet."""
    transform = v2.Compose(
        [
            *(v2.Resize(size, antialias=True), v2.CenterCrop(size), v2.ToImage()),
            *(v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
        ]
    )
    with zipfile.ZipFile(photos) as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpeg", ".jpg", ".png")))
        chosen = names[:: max(1, len(names) // PHOTOS)][:PHOTOS]
        images = []
        for name in chosen:
            with archive.open(name) as file:
                images.append(transform(Image.open(file).convert("RGB")))
    return torch.stack(images)
