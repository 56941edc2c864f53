"""What ``antialiased-zoo adapt`` measures: agreement with the original network, consistency and wobble."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..evaluation import (
    Accuracy,
    Consistency,
    Diagonal,
    Evaluation,
    LabelledImages,
    Options,
    Probe,
    evaluate,
    protocol_for,
    with_room,
)
from ..metrics import evaluating
from ..weights import Preprocessing

# Pairs of shifts of each photo: with one, the draw matters as much as the choice of some dozens of photos.
_PAIRS = 5
_BATCH = 16


class PhotoBatches:
    """Some photos in order: batches with the network's preprocessing.

    Args:
        files: The photos.
        indices: Indices of the photos to use.
        preprocessing: The network's preprocessing.
    """

    def __init__(self, files: LabelledImages, indices: Sequence[int], preprocessing: Preprocessing) -> None:
        self.files, self.indices, self.preprocessing = files, indices, preprocessing

    def __len__(self) -> int:
        return -(-len(self.indices) // _BATCH)

    def __iter__(self) -> Iterator[Tensor]:
        transform = self.preprocessing.build()
        for start in range(0, len(self.indices), _BATCH):
            yield torch.stack([transform(self.files.image(i)) for i in self.indices[start : start + _BATCH]])


class _Labelled(Dataset[Any]):
    """PhotoBatches labelled with the original's predictions, so that accuracy is agreement with it."""

    def __init__(self, photos: PhotoBatches, predictions: Sequence[int]) -> None:
        self.photos, self.predictions = photos, predictions

    def __len__(self) -> int:
        return len(self.predictions)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        return self.photos.files.image(self.photos.indices[place]), self.predictions[place]


def logits_of(model: nn.Module, batches: Iterable[Tensor], device: torch.device) -> Tensor:
    """The model's logits ``(N, classes)`` for all batches, in evaluation mode."""
    with torch.inference_mode(), evaluating(model):
        return torch.cat([model(batch.to(device)) for batch in batches])


def measure(stages: Mapping[str, nn.Module], photos: PhotoBatches, options: Options) -> Evaluation:
    """Measure each stage; the first is the original network."""
    original = next(iter(stages.values()))
    logits = logits_of(original, photos, options.device)
    same = dict.fromkeys(stages, range(logits.shape[1]))  # the data's classes are the network's outputs

    def probes() -> dict[str, Probe]:
        kinds = {kind: Consistency(kind, _PAIRS) for kind in ("crop", "circular")}
        return {"agreement": Accuracy(), **kinds, "diagonal": Diagonal()}

    data = _Labelled(photos, logits.argmax(1).tolist())
    return evaluate(stages, data, probes, protocol_for(with_room(photos.preprocessing)), options, same)
