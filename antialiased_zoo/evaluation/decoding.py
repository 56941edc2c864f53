"""Decoding for an evaluation: each image once, in worker processes, for all protocols together."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm.auto import tqdm

from .images import CorruptImageError
from .protocols import ShiftProtocol
from .views import Canvases


@dataclass(frozen=True)
class Options:
    """How to run an evaluation; figures do not depend on it (except by rounding on ``amp`` and the device).

    Attributes:
        device: The models' device.
        batch_size: Images in a forward pass.
        workers: Number of worker processes; 0 decodes in this process.
        amp: Dtype of autocast; None for none.
        channels_last: True for inputs in channels-last memory format.
        progress: Show a progress bar, on a terminal.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch_size: int = 64
    workers: int = 0
    amp: torch.dtype | None = None
    channels_last: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        """Rejects invalid numbers."""
        if self.batch_size < 1 or self.workers < 0:
            raise ValueError(f"need batch_size >= 1 and workers >= 0, got {self.batch_size}, {self.workers}")


class Batch(NamedTuple):
    """A batch of decoded images.

    Attributes:
        pixels: For each kind of decoding, uint8 ``(N, 3, canvas, canvas)``, channels-last.
        targets: Class indices, ``(N,)``.
        indices: The images' numbers in the data set, ``(N,)``.
        skipped: ``(index, error)`` of images that could not be decoded.
    """

    pixels: dict[tuple[int, int, str], Tensor]
    targets: Tensor
    indices: Tensor
    skipped: list[tuple[int, str]]

    def canvases(self, protocol: ShiftProtocol) -> Canvases:
        """Returns the batch's canvases for one protocol."""
        return Canvases(self.pixels[protocol.decoding], self.targets, self.indices)


def batches(images: Dataset[tuple[Any, int]], protocols: Sequence[ShiftProtocol], options: Options) -> Iterator[Batch]:
    """Yields this process's share of a data set."""
    import torchvision.transforms.v2  # noqa: F401  # so that workers need not import it again

    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    count = len(images)  # type: ignore[arg-type]  # torch declares no length for its datasets
    loader = DataLoader(
        _Decoder(images, protocols),
        batch_size=options.batch_size,
        # Every world-th image, since a padded sampler would count some images twice.
        sampler=range(rank, count, world),
        num_workers=options.workers,
        collate_fn=_collate,
        pin_memory=options.device.type == "cuda",
        generator=torch.Generator(),  # its own, since the loader would draw a number from torch's
    )
    # iter(), since tqdm.auto would create two iterators, each of which would start workers.
    shown = None if options.progress and rank == 0 else True
    return iter(tqdm(iter(loader), desc="evaluate", disable=shown, leave=False))


class _Decoded(NamedTuple):
    number: int
    target: int
    canvases: dict[tuple[int, int, str], Tensor]
    error: str = ""


class _Decoder(Dataset[_Decoded]):
    """Canvases by index, or the error if an image cannot be decoded."""

    def __init__(self, images: Dataset[tuple[Any, int]], protocols: Sequence[ShiftProtocol]) -> None:
        self.images = images
        # Of a part of a data set the images keep their numbers, so that their shifts stay the same.
        self.numbers: Sequence[int] | None = getattr(images, "numbers", None)
        self.ways = {protocol.decoding: protocol for protocol in protocols}

    def __getitem__(self, index: int) -> _Decoded:
        number = index if self.numbers is None else self.numbers[index]
        try:
            image, target = _pair(self.images[index])
        except CorruptImageError as error:
            return _Decoded(number, -1, {}, str(error))
        return _Decoded(number, target, {way: protocol.prepare(image) for way, protocol in self.ways.items()})


def _pair(item: Any) -> tuple[Image.Image, int]:
    """An item of a data set, checked: most data sets give something else."""
    if isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], Image.Image):
        with suppress(TypeError):  # operator.index takes integers of every library, but does not round
            return item[0], operator.index(item[1])
    kinds = (
        f"({', '.join(type(part).__name__ for part in item)})"
        if isinstance(item, (tuple, list))
        else type(item).__name__
    )
    raise TypeError(
        f"the data set gave {kinds}; expected (PIL image, class number): leave out its transform, since the protocol "
        "resizes and normalises, and wrap it if it gives dicts or more than a pair"
    )


def _collate(items: list[_Decoded]) -> Batch:
    good = [item for item in items if not item.error]
    # Channels stay last in memory. In a worker, default_collate stacks directly into shared memory.
    pixels = {
        way: default_collate([item.canvases[way].permute(1, 2, 0) for item in good]).permute(0, 3, 1, 2)
        for way in (good[0].canvases if good else ())
    }
    targets = torch.tensor([item.target for item in good], dtype=torch.int64)
    indices = torch.tensor([item.number for item in good], dtype=torch.int64)
    return Batch(pixels, targets, indices, [(item.number, item.error) for item in items if item.error])
