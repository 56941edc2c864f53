"""What ``antialiased-zoo adapt`` measures: agreement with the original network, consistency and wobble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from ..evaluation import (
    Accuracy,
    Consistency,
    Diagonal,
    Evaluation,
    Options,
    PhotoBatches,
    Probe,
    count_outputs,
    evaluate,
    predictions_of,
    protocol_for,
    with_room,
)

# Pairs of shifts of each photo: with one, the draw matters as much as the choice of some dozens of photos.
_PAIRS = 5


class _Labelled(Dataset[Any]):
    """PhotoBatches labelled with the original's predictions, so that accuracy is agreement with it."""

    def __init__(self, photos: PhotoBatches, predictions: Sequence[int]) -> None:
        self.photos, self.predictions = photos, predictions

    def __len__(self) -> int:
        return len(self.predictions)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        return self.photos.files.image(self.photos.indices[place]), self.predictions[place]


def measure(stages: Mapping[str, nn.Module], photos: PhotoBatches, options: Options) -> Evaluation:
    """Measure each stage; the first is the original network."""
    original = next(iter(stages.values()))
    predicted = predictions_of(original, photos, options.device, None if options.progress else True)
    outputs = count_outputs("the original", original, photos.preprocessing.crop, options)
    same = dict.fromkeys(stages, range(outputs))  # the data's classes are the network's outputs

    def probes() -> dict[str, Probe]:
        kinds = {kind: Consistency(kind, _PAIRS) for kind in ("crop", "circular")}
        return {"agreement": Accuracy(), **kinds, "diagonal": Diagonal()}

    return evaluate(
        stages, _Labelled(photos, predicted), probes, protocol_for(with_room(photos.preprocessing)), options, same
    )
