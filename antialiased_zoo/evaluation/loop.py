"""Evaluating models on a data set: every image decoded once, every distinct view seen once by every model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ..metrics import Figure, Model, evaluating
from .data import CorruptImageError
from .probes import Probe, figures_of
from .protocols import ShiftProtocol
from .views import Canvases, ViewMaker, distinct


@dataclass(frozen=True)
class Options:
    """How to run an evaluation; none of it changes the figures (``amp`` and another device but by rounding).

    Attributes:
        device: Where the models are and run.
        batch_size: Images in a forward pass.
        workers: Processes that decode; 0 decodes in this one.
        amp: Autocast to this dtype.
        channels_last: Memory format of what the models see.
        progress: A bar on a terminal.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch_size: int = 64
    workers: int = 0
    amp: torch.dtype | None = None
    channels_last: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        """Rejects numbers that mean nothing."""
        if self.batch_size < 1 or self.workers < 0:
            raise ValueError(f"need batch_size >= 1 and workers >= 0, got {self.batch_size}, {self.workers}")


@dataclass
class Evaluation:
    """What :func:`evaluate` found.

    Attributes:
        probes: Model -> measure -> what it measured, of all processes.
        images: Images measured.
        skipped: ``(index, error)`` of images that could not be decoded; the error names the file.
        views: Distinct views that each model saw, of all processes.
        seconds: Wall time, of the slowest process.
    """

    probes: dict[str, dict[str, Probe]]
    images: int = 0
    skipped: list[tuple[int, str]] = field(default_factory=list)
    views: int = 0
    seconds: float = 0.0

    def figures(self, model: str) -> dict[str, dict[str, object]]:
        """Returns one model's figures in percent, for JSON."""
        return figures_of(self.probes[model])

    def differences(self, model: str, baseline: str) -> dict[str, Figure]:
        """Returns by how many points a model's figures exceed a baseline's, with the interval of the mean difference.

        Both models saw the same views in the same order, so images are compared one by one: the interval is
        narrower than the two figures' own intervals suggest.
        """
        return {
            figure: meter.difference(self.probes[baseline][name].meters[figure]).times(100)
            for name, probe in self.probes[model].items()
            for figure, meter in probe.meters.items()
        }

    def merge(self, other: Evaluation) -> None:
        """Takes in what another process measured of other images."""
        for label, probes in self.probes.items():
            for name, probe in probes.items():
                probe.merge(other.probes[label][name])
        self.images += other.images
        self.skipped = sorted(self.skipped + other.skipped)
        self.views += other.views
        self.seconds = max(self.seconds, other.seconds)


def evaluate(
    models: Mapping[str, Model],
    images: Dataset[tuple[Any, int]],
    probes: Callable[[], dict[str, Probe]],
    protocol: ShiftProtocol,
    options: Options | None = None,
    class_index: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Measures models side by side.

    Under ``torchrun`` with an initialised process group each process takes every ``world``-th image, none
    twice, and all return the whole result. It does not depend on batch size, workers or processes (but where
    a model's own arithmetic rounds differently in another batch).

    Args:
        models: Label -> module or callable, on the options' device.
        images: ``(PIL image, class)`` for each index; :func:`antialiased_zoo.evaluation.data.open_images` gives such.
        probes: Makes one model's measures, by name.
        protocol: Preprocessing and shifts; the same for all models.
        options: How to run.
        class_index: Label -> model's class for each class of the data, where the two differ.
        seed: Of corruptions made on the fly.

    Raises:
        ValueError: No image could be decoded, or a model has other classes than the data.

    Example:
        >>> from PIL import Image
        >>> from antialiased_zoo.evaluation.probes import Accuracy, Consistency
        >>> from antialiased_zoo.evaluation.protocols import cifar
        >>> data = [(Image.new("RGB", (32, 32), (60 * i, 0, 0)), i % 2) for i in range(4)]
        >>> probes = lambda: {"accuracy": Accuracy(), "crop": Consistency("crop")}
        >>> found = evaluate({"mean": lambda x: x.mean((2, 3))}, data, probes, cifar())
        >>> found.figures("mean")["top1"]["n"]
        4
    """
    options = options or Options()
    found = Evaluation({label: probes() for label in models})
    started = time.perf_counter()
    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(evaluating(model))
        for canvases, skipped in _batches(images, protocol, options):
            found.skipped += skipped
            if len(canvases.indices):
                maker = ViewMaker(canvases, protocol, options.device, seed)
                found.views += _measure(models, maker, found.probes, options, _Classes(images, class_index))
                found.images += len(canvases.indices)
    found.seconds = time.perf_counter() - started
    return _gathered(found)


def _measure(
    models: Mapping[str, Model],
    maker: ViewMaker,
    probes: Mapping[str, Mapping[str, Probe]],
    options: Options,
    classes: _Classes,
) -> int:
    """Shows one batch's distinct views to every model; returns how many there were."""
    canvases, protocol = maker.canvases, maker.protocol
    wanted = [probe.views(canvases.indices, protocol) for probe in next(iter(probes.values())).values()]
    keys, where = distinct(torch.cat(wanted, dim=1), protocol)
    seen: dict[str, list[Tensor]] = {label: [] for label in models}
    for start in range(0, len(keys), options.batch_size):
        views = maker.make(keys[start : start + options.batch_size])
        for label, model in models.items():
            seen[label].append(_forward(model, views, options))
    for label, logits in seen.items():
        answers = torch.cat(logits)[where.to(options.device)]
        targets = classes.targets(label, canvases.targets, answers.shape[-1], probes[label]).to(options.device)
        parts = torch.split(answers, [len(views[0]) for views in wanted], dim=1)
        for probe, part in zip(probes[label].values(), parts, strict=True):
            probe.update(part, targets)
    return len(keys)


def _forward(model: Model, views: Tensor, options: Options) -> Tensor:
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    autocast = torch.autocast(options.device.type, options.amp) if options.amp else nullcontext()
    with autocast:
        return model(views.contiguous(memory_format=layout)).float()


def bare_seconds(models: Mapping[str, Model], views: int, protocol: ShiftProtocol, options: Options) -> float:
    """Times the forward passes of so many views and nothing else, on a ready batch: the least to pay."""
    batch = torch.randn(options.batch_size, 3, protocol.size, protocol.size, device=options.device)
    batch = batch.contiguous(memory_format=torch.channels_last)
    sizes = [options.batch_size] * (views // options.batch_size) + [views % options.batch_size]
    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(evaluating(model))
        started = time.perf_counter()
        for model in models.values():
            for size in filter(None, sizes):
                # Its sum on the CPU waits for the device, as the evaluation's figures do.
                _forward(model, batch[:size], options).sum().item()
        return time.perf_counter() - started


class _Classes:
    """The data's classes as the models number them."""

    def __init__(self, images: Dataset[Any], class_index: Mapping[str, Sequence[int]] | None) -> None:
        self.count = len(getattr(images, "classes", ()))
        self.index = class_index or {}

    def targets(self, label: str, targets: Tensor, outputs: int, probes: Mapping[str, Probe]) -> Tensor:
        if label in self.index:
            return torch.tensor(self.index[label])[targets]
        if self.count and self.count != outputs and any(probe.needs_targets for probe in probes.values()):
            raise ValueError(
                f"{label} has {outputs} classes, the data {self.count}; evaluate it on data with its own "
                "classes, or measure only crop and circular consistency, which need none"
            )
        return targets


def _batches(
    images: Dataset[tuple[Any, int]], protocol: ShiftProtocol, options: Options
) -> Iterator[tuple[Canvases, list[tuple[int, str]]]]:
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    count = len(images)  # type: ignore[arg-type]  # torch declares no length for its datasets
    loader = DataLoader(
        _Decoder(images, protocol),
        batch_size=options.batch_size,
        # Every world-th image: a padded sampler would count some images twice.
        sampler=range(rank, count, world),
        num_workers=options.workers,
        collate_fn=_collate,
        pin_memory=options.device.type == "cuda",
    )
    return iter(tqdm(loader, desc="evaluate", disable=None if options.progress and rank == 0 else True, leave=False))


class _Decoder(Dataset[tuple[int, Tensor | str, int]]):
    """Canvases by index, or the error where an image cannot be decoded."""

    def __init__(self, images: Dataset[tuple[Any, int]], protocol: ShiftProtocol) -> None:
        self.images, self.protocol = images, protocol

    def __getitem__(self, index: int) -> tuple[int, Tensor | str, int]:
        try:
            image, target = self.images[index]
        except CorruptImageError as error:
            return index, str(error), -1
        return index, self.protocol.prepare(image), target


def _collate(items: list[tuple[int, Tensor | str, int]]) -> tuple[Canvases, list[tuple[int, str]]]:
    good = [(index, pixels, target) for index, pixels, target in items if isinstance(pixels, Tensor)]
    skipped = [(index, error) for index, error, _ in items if isinstance(error, str)]
    indices, targets = (torch.tensor([item[place] for item in good], dtype=torch.int64) for place in (0, 2))
    pixels = torch.stack([item[1] for item in good]) if good else torch.empty(0, dtype=torch.uint8)
    return Canvases(pixels, targets, indices), skipped


def _gathered(found: Evaluation) -> Evaluation:
    if dist.is_initialized() and dist.get_world_size() > 1:
        shares: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(shares, found)
        found = shares[0]
        for share in shares[1:]:
            found.merge(share)
    if not found.images:
        errors = "; ".join(error for _, error in found.skipped[:3])
        raise ValueError(f"no image could be decoded of {len(found.skipped)}: {errors or 'the data set is empty'}")
    return found
