"""Batches of photos without labels, and what a model answers to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ..metrics import evaluating
from ..weights import Preprocessing
from .images import LabelledImages

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


def logits_of(model: nn.Module, batches: Iterable[Tensor], device: torch.device) -> Tensor:
    """The model's logits ``(N, classes)`` for all batches, in evaluation mode."""
    with evaluating(model):
        return torch.cat([model(batch.to(device)) for batch in batches])
