"""The evaluation loop: each image is decoded once, and each model sees each distinct view once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset

from ..metrics import Figure, Model, evaluating, logits_of, require_classes
from .decoding import Options, batches
from .probes import Probe, figures_of
from .protocols import ShiftProtocol
from .views import ViewMaker, distinct


@dataclass
class Evaluation:
    """The result of :func:`evaluate`, over all processes.

    Attributes:
        probes: Model -> measure -> its probe.
        images: Number of images measured.
        skipped: ``(number, error)`` of images that could not be decoded; the error names the file.
        views: Model -> number of distinct views that it saw.
        seconds: Wall time of the slowest process.
    """

    probes: dict[str, dict[str, Probe]]
    images: int = 0
    skipped: list[tuple[int, str]] = field(default_factory=list)
    views: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def figures(self, model: str) -> dict[str, dict[str, object]]:
        """Returns one model's figures in percent, for JSON."""
        return figures_of(self.probes[model])

    def differences(self, model: str, baseline: str) -> dict[str, Figure]:
        """Returns a model's figures minus a baseline's, in percentage points, with intervals.

        A figure that only one of them has, such as top-5, is left out. Both models saw the same images
        in the same order, so the comparison is paired, and the intervals are narrower than those of
        the two figures suggest.
        """
        return {
            figure: meter.difference(other).times(100)
            for name, probe in self.probes[model].items()
            for figure, meter in probe.meters.items()
            if (other := self.probes[baseline][name].meters.get(figure)) is not None
        }

    def merge(self, other: Evaluation) -> None:
        """Adds another process's results on other images."""
        for label, probes in self.probes.items():
            for name, probe in probes.items():
                probe.merge(other.probes[label][name])
        self.images += other.images
        self.skipped = sorted(self.skipped + other.skipped)
        self.views = {label: views + other.views.get(label, 0) for label, views in self.views.items()}
        self.seconds = max(self.seconds, other.seconds)


def evaluate(
    models: Mapping[str, Model],
    images: Dataset[tuple[Any, int]],
    probes: Callable[[], dict[str, Probe]],
    protocol: ShiftProtocol | Mapping[str, ShiftProtocol],
    options: Options | None = None,
    class_index: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Measures several models together; each image is decoded once for all models and protocols.

    Under ``torchrun`` with an initialised process group each process evaluates every ``world``-th
    image, and all processes return the complete result. The result does not depend on the batch
    size, the workers or the processes (unless a model rounds differently in another batch).

    Args:
        models: Label -> module or callable, on the options' device.
        images: A data set of ``(PIL image, class)`` with the class names in ``classes``, as returned
            by `open_images` and `open_data`.
        probes: A function that returns one model's measures, by name.
        protocol: Preprocessing and shifts: one protocol for all models, or label -> protocol.
        options: How to run.
        class_index: Label -> the model's output for each class of the data, if they differ.
        seed: Seed of corruptions computed on the fly.

    Raises:
        ValueError: No image could be decoded, a model's classes differ from the data's, or a
            protocol has no room for the shifts of a measure.

    Example:
        >>> from PIL import Image
        >>> from antialiased_zoo.evaluation import Accuracy, Consistency, cifar
        >>> data = [(Image.new("RGB", (32, 32), (60 * i, 0, 0)), i % 2) for i in range(4)]
        >>> probes = lambda: {"accuracy": Accuracy(), "crop": Consistency("crop")}
        >>> found = evaluate({"mean": lambda x: x.mean((2, 3))}, data, probes, cifar(), class_index={"mean": [0, 1]})
        >>> found.figures("mean")["top1"]["n"]
        4
    """
    options = options or Options()
    protocols = protocol if isinstance(protocol, Mapping) else dict.fromkeys(models, protocol)
    groups: dict[ShiftProtocol, dict[str, Model]] = {}
    for label, model in models.items():
        groups.setdefault(protocols[label], {})[label] = model
    found = Evaluation({label: probes() for label in models}, views=dict.fromkeys(models, 0))
    _check(groups, found.probes)
    classes = _Classes(images, class_index)
    started = time.perf_counter()
    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(evaluating(model))
        for batch in batches(images, list(groups), options):
            found.skipped += batch.skipped
            found.images += len(batch.indices)
            for of_protocol, group in groups.items() if len(batch.indices) else ():
                maker = ViewMaker(batch.canvases(of_protocol), of_protocol, options.device, seed)
                seen = _measure(group, maker, found.probes, options, classes)
                found.views |= {label: found.views[label] + seen for label in group}
    found.seconds = time.perf_counter() - started
    return _gathered(found)


def _check(groups: Mapping[ShiftProtocol, Mapping[str, Model]], probes: Mapping[str, Mapping[str, Probe]]) -> None:
    """Rejects measures that a protocol does not support, before any image is decoded."""
    for protocol, group in groups.items():
        for probe in probes[next(iter(group))].values():
            probe.views(torch.tensor([0]), protocol)


def _measure(
    models: Mapping[str, Model],
    maker: ViewMaker,
    probes: Mapping[str, Mapping[str, Probe]],
    options: Options,
    classes: _Classes,
) -> int:
    """Runs every model on a batch's distinct views and returns their number."""
    canvases, protocol = maker.canvases, maker.protocol
    wanted = [probe.views(canvases.indices, protocol) for probe in probes[next(iter(models))].values()]
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
            try:
                probe.update(part, targets)
            except ValueError as error:
                raise ValueError(f"{label}: {error}") from error
    return len(keys)


def count_outputs(label: str, model: Model, size: int, options: Options) -> int:
    """Returns a model's number of classes, by running it on one black image.

    Raises:
        ValueError: The model does not map images ``(1, 3, size, size)`` to logits ``(1, classes)`` of two
            classes or more.
    """
    try:
        with evaluating(model):
            outputs = _forward(model, torch.zeros(1, 3, size, size, device=options.device), options).shape[1]
        require_classes(outputs)
    # A model's code may raise anything.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{label} does not map an image of {size} pixels to logits (1, classes): {reason}") from error
    return outputs


def _forward(model: Model, views: Tensor, options: Options) -> Tensor:
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    autocast = torch.autocast(options.device.type, options.amp) if options.amp else nullcontext()
    with autocast:
        return logits_of(model, views.contiguous(memory_format=layout)).float()


def bare_seconds(
    models: Mapping[str, Model],
    views: Mapping[str, int],
    protocols: Mapping[str, ShiftProtocol],
    options: Options,
) -> float:
    """Times only the forward passes of each model's number of views, on a ready batch: a lower bound of the time."""
    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(evaluating(model))
        started = time.perf_counter()
        for label, model in models.items():
            size = protocols[label].size
            batch = torch.randn(options.batch_size, 3, size, size, generator=torch.Generator().manual_seed(0))
            batch = batch.to(options.device).contiguous(memory_format=torch.channels_last)
            whole, rest = divmod(views[label], options.batch_size)
            for images in filter(None, [*[options.batch_size] * whole, rest]):
                # The sum on the CPU waits for the device, as the evaluation does.
                _forward(model, batch[:images], options).sum().item()
        return time.perf_counter() - started


class _Classes:
    """The data's targets in each model's numbering."""

    def __init__(self, images: Dataset[Any], class_index: Mapping[str, Sequence[int]] | None) -> None:
        self.count = len(getattr(images, "classes", ()))
        self.index = class_index or {}

    def targets(self, label: str, targets: Tensor, outputs: int, probes: Mapping[str, Probe]) -> Tensor:
        if not any(probe.needs_targets for probe in probes.values()):
            return targets
        index = self.index.get(label)
        if index is None and self.count != outputs:
            stated = f"the data {self.count}" if self.count else "the data does not name its own"
            raise ValueError(
                f"{label} has {outputs} classes, {stated}; give class_index, or measure only crop and circular "
                "consistency, which need no classes"
            )
        known = outputs if index is None else len(index)
        if not bool(((targets >= 0) & (targets < known)).all()):  # -1 would be the last class, or always wrong
            raise ValueError(
                f"the data has images of class {int(targets.min())} to {int(targets.max())}, but {known} classes; data "
                "without labels, such as a test split, often states -1: measure only crop and circular consistency "
                "there, which need no classes"
            )
        return targets if index is None else torch.tensor(index)[targets]


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
