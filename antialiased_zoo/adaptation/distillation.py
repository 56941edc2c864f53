"""Distillation without labels: a network teaches its own antialiased copy on any images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ..training import Execution, RunFolder, tensors_digest
from ..zoo import fingerprint_of
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
    """Let a network teach its antialiased copy, in place, on images without labels.

    Each step, the teacher sees the images at random shifts of a few pixels; the student learns the mean of its
    answers (Kullback-Leibler divergence of the softmax), and the mean of its feature maps, moved to where the student's
    blurs put them (squared error, relative to the map's variance). Averaged over shifts the teacher is more
    consistent than by itself, and its maps are free of what aliases. In a share of the steps the student sees the
    images moved circularly, and learns that the answers stay the same. Batch norms stay in evaluation mode: call
    `recalibrate` first. Adam, a short warm-up, then cosine decay to zero.

    Args:
        student: The antialiased copy; its trainable parameters are changed, buffers are not.
        teacher: The network it was made from; its tensors are left as they are. Both are moved to the device.
        loader: Batches of images ``(N, C, H, W)``, or tuples and lists that begin with them; read again from its start
            when it ends. Preprocess them as for the teacher, ``2 * reach`` pixels larger than the student is to see:
            it sees their centre. Mixed random crops of photos do best (`antialiased_zoo.adaptation.RandomCrops`), at
            the size that the network is used at: batch norms measured at another size do not fit. In a process group
            each process gives its share of every batch, and all shares are of one size. One with a method
            ``skip(batches)`` is asked for the rest when a run goes on; of others, batches are read and dropped.
        steps: Updates to make.
        lr: Adam's largest learning rate.
        layers: Names of the modules whose maps are compared; by default up to four, spread over the depth. ``()``
            compares answers alone.
        reach: By how many pixels at most, up and left or down and right, a view of the teacher's is moved.
        views: How many views of the teacher's are averaged.
        circular: Share of the steps in which the student sees the images moved circularly by any number of pixels; the
            answers alone are compared then, since the maps lie elsewhere.
        seed: Of the views and circular moves.
        ema: Decay of the exponential moving average of the weights that the student ends with; 0 takes the last.
        held_out: Batches of images to compare both on, the same at every reading: percent of equal top answers, and the
            mean Kullback-Leibler divergence. The student ends with the weights of the lowest divergence, which says the
            same as the agreement with less noise.
        check_every: Steps between two looks at ``held_out``.
        patience: Stop after so many looks without a lower divergence.
        folder: Where a checkpoint is kept: called again with the same arguments, and the student as it was at first, a
            killed run goes on from there and ends with the same bits (on a CPU, with the same number of threads and a
            loader that gives the same batches). Settings, teacher and the student's start are compared with the
            checkpoint's; batch-norm statistics are the checkpoint's.
        identity: More settings that the checkpoint must share, such as what images the loader reads.
        execution: Device, automatic mixed precision, memory format, processes, checkpoint interval, bar.
        report: Given each look's figures, in the first process.

    Returns:
        The student, with train and evaluation flags as they were.

    Raises:
        ValueError: If the two do not match, an argument is out of range, the loader is empty, or the folder holds a
            checkpoint of another run.
        TypeError: If a batch is neither a tensor nor begins with one.
        FloatingPointError: If the loss is not finite any more.

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
        settings = {**(identity or {}), **settings, "teacher": _digest(teacher), "student": _digest(student, True)}
    with _still([student, teacher]):
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
        raise ValueError(f"circular is a share of the steps, between 0 and 1, got {settings['circular']!r}")
    if type(settings["reach"]) is not int or settings["reach"] < 0:
        raise ValueError(f"reach must be a number of pixels, 0 or more, got {settings['reach']!r}")
    if settings["views"] > 2 * settings["reach"] + 1:
        raise ValueError(f"a reach of {settings['reach']} pixels has no {settings['views']} different views")
    if settings["patience"] and not settings["held_out"]:
        raise ValueError("patience counts looks at held_out, and there is none: give both")
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise ValueError("the student has no trainable parameter: nothing can be learned")
    if not {id(p) for p in student.parameters()}.isdisjoint(id(p) for p in teacher.parameters()):
        raise ValueError("student and teacher share parameters: make the student with antialias(), which copies")


def _digest(model: nn.Module, start: bool = False) -> str:
    """Short digest of a network: its tensors, blurs and strides.

    Args:
        model: The network.
        start: Of what is trained, and of what is frozen, alone: `recalibrate` may round statistics differently.
    """
    parameters = {f"{name}{'' if p.requires_grad else ', frozen'}": p for name, p in model.named_parameters()}
    tensors = tensors_digest(parameters if start else model.state_dict())
    return hashlib.sha256(f"{tensors}\n{fingerprint_of(model)}".encode()).hexdigest()[:16]


@contextmanager
def _still(models: Sequence[nn.Module]) -> Iterator[None]:
    """Everything in evaluation mode: no dropout, and batch norms that measure nothing."""
    flags = [(module, module.training) for model in models for module in model.modules()]
    try:
        for module, _ in flags:
            module.training = False
        yield
    finally:
        for module, flag in flags:
            module.training = flag
