"""Probes: which views of an image a measure of `evaluate` needs, and what it records; and the table of measures.

A new measure is a subclass of `Probe`. `register_probe` adds it to ``scripts/evaluate.py
--metrics``, which also accepts an unregistered one as ``--metrics MODULE:CLASS``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..metrics import Figure, Meter
from .protocols import ShiftProtocol


@dataclass(frozen=True)
class Settings:
    """A command line's settings of the measures.

    Attributes:
        images: Number of images in the data set, of which some may be left out.
        pairs: Pairs of shifts per image.
        seed: Seed of the shifts.
        paper: Draw crops like the published script.
    """

    images: int
    pairs: int = 1
    seed: int = 0
    paper: bool = False


class Probe:
    """Base class of measures: one measure of one model.

    Attributes:
        meters: The measured values by the name in reports; in 0..1, reported in percent.
        needs_targets: True if the measure uses the images' classes.
        titles: Figure -> its column title in tables; other figures appear only in the JSON.
    """

    needs_targets = True
    titles: ClassVar[Mapping[str, str]] = {}

    def __init__(self) -> None:
        self.meters: dict[str, Meter] = {}

    @classmethod
    def create(cls, settings: Settings) -> Probe:
        """Makes a probe from a command line's settings; by default they have no effect."""
        return cls()

    def views(self, indices: Tensor, protocol: ShiftProtocol) -> Tensor:
        """Returns the views that the model must see, int64 ``(N, V, 3)``, for images by index."""
        raise NotImplementedError

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Adds a batch: float32 logits ``(N, V, classes)`` of the views, and class indices ``(N,)``."""
        raise NotImplementedError

    def merge(self, other: Probe) -> None:
        """Adds another process's measurements of other images."""
        for name, meter in other.meters.items():
            self.meters[name].merge(meter)

    def figures(self) -> dict[str, Figure]:
        """Returns each meter's figure, in percent."""
        return {name: meter.figure().times(100) for name, meter in self.meters.items()}

    def columns(self) -> dict[str, list[float]]:
        """Returns the column means, in percent, of each meter that has a row per image."""
        return {name: [100 * m for m in meter.means()] for name, meter in self.meters.items() if meter.rows.dim() == 2}


ProbeFactory = Callable[[Settings], Probe]
PROBES: dict[str, ProbeFactory] = {}
TITLES: dict[str, str] = {}


def register_probe(name: str, create: ProbeFactory, titles: Mapping[str, str]) -> None:
    """Registers a measure.

    Args:
        name: Its name in ``--metrics``.
        create: A function that makes the probe of one model.
        titles: Figure -> its column title in tables; columns are in the order of registration.

    Raises:
        ValueError: The name is taken.
    """
    if name in PROBES:
        raise ValueError(f"the measure {name!r} is already registered: choose another name")
    PROBES[name] = create
    TITLES.update(titles)


def find_probe(name: str) -> ProbeFactory:
    """Returns a registered measure, or the `Probe` subclass that ``MODULE:CLASS`` names.

    Raises:
        ValueError: There is no such measure.
    """
    if name in PROBES:
        return PROBES[name]
    place, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(place), attribute) if attribute else None
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot import the measure {attribute} from module {place}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Probe)):
        raise ValueError(f"{name!r} is not a measure; there are {', '.join(PROBES)}, or give MODULE:CLASS of a Probe")
    register_probe(name, found.create, found.titles)
    return found.create


def figures_of(probes: Mapping[str, Probe]) -> dict[str, dict[str, object]]:
    """Returns the figures of probes by name, for JSON: value, n, low, high, and the column means (``each``)."""
    found: dict[str, dict[str, object]] = {}
    for probe in probes.values():
        for name, figure in probe.figures().items():
            found[name] = dict(figure.as_dict())
        for name, columns in probe.columns().items():
            found[name]["each"] = columns
    return found
