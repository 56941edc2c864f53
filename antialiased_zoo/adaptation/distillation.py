"""Distillation without labels: a network teaches its own antialiased copy on any images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ..training import Execution, RunFolder, merge_settings, tensors_digest
from ..zoo import fingerprint_of
from .inputs import ONLY_IMAGES
from .loop import Distillation

_Model = TypeVar("_Model", bound=nn.Module)


def distill(
    student: _Model,
    teacher: nn.Module,
    loader: Iterable[Any],
    *,
    steps: int,
    lr: float = 2e-4,
    layers: Sequence[str] | None = None,
    reach: int = 8,
    views: int = 2,
    circular: float = 0.1,
    seed: int = 0,
    ema: float = 0.0,
    held_out: Iterable[Any] | None = None,
    check_every: int = 50,
    patience: int | None = None,
    folder: str | Path | None = None,
    identity: Mapping[str, Any] | None = None,
    execution: Execution | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> _Model:
    """Distill a network into its antialiased copy, in place, on unlabelled images.

    In each step the teacher sees the images at random shifts of a few pixels. The student learns the teacher's mean
    prediction (Kullback-Leibler divergence of the softmax) and its mean feature maps, shifted to the positions to which
    the student's blurs shift them (squared error, relative to the map's variance). The mean over shifts is more
    consistent than a single prediction, and its maps contain less aliasing. In a share of the steps the student sees
    circularly shifted images, and learns to predict the same. Batch norms stay in evaluation mode: call `recalibrate`
    first. The optimizer is Adam, with a short warm-up and cosine decay to zero.

    Args:
        student: The antialiased copy; its trainable parameters are changed, its buffers are not.
        teacher: The original network; its tensors are not changed. Both are moved to the device.
        loader: Batches of images ``(N, C, H, W)``, or tuples and lists that start with them; read again from the start
            when it ends. Preprocess them as for the teacher, but ``2 * reach`` pixels larger than the student's input:
            the student sees their centre. Strong random crops of photos work best
            (`antialiased_zoo.adaptation.RandomCrops`), at the size at which the network will be used, since batch norms
            measured at another size do not fit. In a process group each process gives its share of every batch, and all
            shares have the same size. When a run is resumed, a loader with a method ``skip(batches)`` is asked to skip;
            from others, batches are read and dropped.
        steps: Number of optimizer steps.
        lr: Peak learning rate.
        layers: Names of the modules whose maps are compared. Default: up to four, spread over the depth. ``()``
            compares only predictions.
        reach: Largest shift of a teacher's view, in pixels, towards the top left or the bottom right.
        views: Number of teacher's views that are averaged.
        circular: Share of the steps in which the student sees circularly shifted images, by any number of pixels. In
            these steps only predictions are compared, since the maps are shifted too.
        seed: Seed of the views and circular shifts.
        ema: Decay of the exponential moving average of the weights; the student ends with the average. 0 turns it off.
        held_out: Batches of images, the same at every iteration, on which both are compared: percentage of equal top-1
            predictions, and mean Kullback-Leibler divergence. The student ends with the weights of the lowest
            divergence, which follows the agreement with less noise.
        check_every: Steps between two evaluations on ``held_out``.
        patience: Stop after this many evaluations without a lower divergence.
        folder: Folder of the checkpoint. If a killed run is started again with the same arguments, it resumes there and
            ends with bit-identical weights (on a CPU, with the same number of threads and a loader that gives the same
            batches). Settings, teacher and the student's start are compared with the checkpoint's; batch-norm
            statistics are taken from the checkpoint.
        identity: More settings that the checkpoint must match, such as the images that the loader reads. Their names
            must differ from the run's own settings: this function's arguments, ``world`` and ``amp``.
        execution: Device, automatic mixed precision, memory format, processes, checkpoint interval, progress bar.
        report: Called with each evaluation's figures, in the first process.

    Returns:
        The student, with its training and evaluation modes restored.

    Raises:
        ValueError: If the networks do not match, an argument is out of range, the loader is empty, the images are too
            small, or the folder holds a checkpoint of another run.
        TypeError: If a batch is neither a tensor nor starts with one, or the loader is itself a tensor.
        antialiased_zoo.errors.DivergedError: If the loss is no longer finite.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; Beyer et al., "Knowledge
        distillation: A good teacher is patient and consistent", 2022.

    Example:
        >>> import antialiased_zoo as az
        >>> teacher = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 1))
        >>> teacher = nn.Sequential(*teacher, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
        >>> student = az.distill(az.antialias(teacher), teacher, [torch.randn(4, 3, 48, 48)], steps=2)
    """
    how = execution or Execution()
    settings: dict[str, Any] = {"steps": steps, "lr": lr, "layers": None if layers is None else list(layers)}
    settings |= {"reach": reach, "views": views, "circular": circular, "seed": seed}
    settings |= {"ema": ema, "check_every": check_every, "patience": patience}
    settings |= {"held_out": held_out is not None, "world": how.world, "amp": str(how.amp)}
    _check(student, teacher, settings)
    if how.amp is torch.float16:
        raise ValueError("amp must be None or torch.bfloat16: float16 has too small a range for small gradients")
    if folder is not None:
        settings |= {"teacher": _digest(teacher), "student": _digest(student, True)}
        settings = merge_settings(settings, identity)
    with _evaluating([student, teacher]):
        run = Distillation(student, teacher, settings, how, RunFolder(folder) if folder is not None else None)
        run.fit(loader, held_out, report or (lambda entry: None))
    return student


def _check(student: nn.Module, teacher: nn.Module, settings: dict[str, Any]) -> None:
    for name in ("steps", "check_every", "patience", "views"):
        value = settings[name]
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{name} must be a positive integer, got {value!r}")
    if not settings["lr"] > 0 or not 0 <= settings["ema"] < 1:
        raise ValueError(f"need lr > 0 and 0 <= ema < 1, got {settings['lr']!r} and {settings['ema']!r}")
    if not 0 <= settings["circular"] <= 1:
        raise ValueError(f"circular must be a share of the steps, from 0 to 1, got {settings['circular']!r}")
    if type(settings["reach"]) is not int or settings["reach"] < 0:
        raise ValueError(f"reach must be an integer number of pixels, 0 or more, got {settings['reach']!r}")
    if settings["views"] > 2 * settings["reach"] + 1:
        raise ValueError(
            f"views={settings['views']} is more than the {2 * settings['reach'] + 1} different views that "
            f"reach={settings['reach']} has"
        )
    if settings["patience"] and not settings["held_out"]:
        raise ValueError("patience counts evaluations on held_out: give held_out too")
    for role, model in (("student", student), ("teacher", teacher)):
        if any(parameter.dim() == 5 for parameter in model.parameters()):
            raise ValueError(f"the {role} is a 3-D network{ONLY_IMAGES}")
        names = {name for name, _ in model.named_modules(remove_duplicate=False)}
        if unknown := [layer for layer in settings["layers"] or () if layer not in names]:
            raise ValueError(f"the {role} has no layer {unknown[0]!r}: give names from its named_modules()")
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise ValueError("the student has no trainable parameters")
    if not {id(p) for p in student.parameters()}.isdisjoint(id(p) for p in teacher.parameters()):
        raise ValueError("student and teacher share parameters: make the student with antialias(), which copies")


def _digest(model: nn.Module, start: bool = False) -> str:
    """Return a short digest of a network's tensors, blurs and strides.

    Args:
        model: The network.
        start: Only parameters, without buffers: `recalibrate` may round the statistics differently.
    """
    parameters = {f"{name}{'' if p.requires_grad else ', frozen'}": p for name, p in model.named_parameters()}
    tensors = tensors_digest(parameters if start else model.state_dict())
    return hashlib.sha256(f"{tensors}\n{fingerprint_of(model)}".encode()).hexdigest()[:16]


@contextmanager
def _evaluating(models: Sequence[nn.Module]) -> Iterator[None]:
    """A context with all modules in evaluation mode; the modes are restored afterwards."""
    flags = [(module, module.training) for model in models for module in model.modules()]
    try:
        for module, _ in flags:
            module.training = False
        yield
    finally:
        for module, flag in flags:
            module.training = flag
