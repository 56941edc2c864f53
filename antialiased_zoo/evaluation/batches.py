"""Batches of photos without labels, and what a model answers to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..metrics import evaluating, logits_of, predicted
from ..weights import Preprocessing
from .images import CorruptImageError, LabelledImages

_BATCH = 16


class PhotoBatches:
    """Some photos in order: batches with the network's preprocessing, without photos that cannot be decoded.

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
        for _, images in self.placed():
            if len(images):
                yield images

    def placed(self) -> Iterator[tuple[list[int], Tensor]]:
        """Yields each batch with its photos' places in ``indices``; it has no photos if none can be decoded."""
        transform = self.preprocessing.build()
        for start in range(0, len(self.indices), _BATCH):
            decoded = {}
            for place in range(start, min(start + _BATCH, len(self.indices))):
                with suppress(CorruptImageError):
                    decoded[place] = transform(self.files.image(self.indices[place]))
            yield list(decoded), torch.stack([*decoded.values()]) if decoded else torch.empty(0)


def predictions_of(
    model: nn.Module, photos: PhotoBatches, device: torch.device, hide_bar: bool | None = True
) -> list[int]:
    """The class that a model predicts for each photo, in evaluation mode; 0 for photos that cannot be decoded.

    `evaluate` skips those and counts them.

    Args:
        model: The model, on the device.
        photos: The photos.
        device: The device.
        hide_bar: tqdm's ``disable``: ``None`` shows a bar on a terminal.
    """
    found = [0] * len(photos.indices)
    with evaluating(model):
        for places, images in tqdm(photos.placed(), "label", len(photos), disable=hide_bar, leave=False):
            classes = predicted(logits_of(model, images.to(device))).tolist() if places else []
            for place, number in zip(places, classes, strict=True):
                found[place] = number
    return found
