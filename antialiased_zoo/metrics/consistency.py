"""Accuracy, crop and circular consistency, flip rate, and stability under diagonal shifts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .intervals import Figure
from .logits import logits_of, predicted
from .meters import Meter
from .running import Model, evaluating
from .shifts import CROP_OFFSETS, DIAGONAL_OFFSETS, ROLL_OFFSETS, crop, draw_pairs, roll


def top_k_correct(logits: Tensor, targets: Tensor, k: int = 1) -> Tensor:
    """Returns whether each target is among the k largest logits.

    Args:
        logits: ``(N, classes)``.
        targets: Class indices, ``(N,)``.
        k: At most the number of classes.

    Returns:
        Booleans ``(N,)``.

    Raises:
        ValueError: If k exceeds the number of classes, a target is not a class, or there is not one for
            each row of logits.

    Example:
        >>> top_k_correct(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1])).tolist()
        [True, False]
    """
    classes = logits.shape[1]
    if targets.shape != logits.shape[:1] or targets.is_floating_point():
        raise ValueError(
            f"expected a class index for each of {len(logits)} rows of logits, got {targets.dtype} of shape "
            f"{tuple(targets.shape)}"
        )
    if not 1 <= k <= classes:
        raise ValueError(f"top-{k} of {classes} classes is not defined; give 1 <= k <= {classes}")
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        raise ValueError(
            f"targets from {int(targets.min())} to {int(targets.max())}, but the model has {classes} "
            "classes; evaluate it on data with its own classes"
        )
    first = predicted(logits)  # for k = 1, so that ties are broken as in the predictions
    best = first[:, None] if k == 1 else logits.topk(k, dim=1).indices
    return (best == targets[:, None]).any(dim=1)


def agreement(first: Tensor, second: Tensor) -> Tensor:
    """Returns whether two sets of logits ``(..., classes)`` predict the same class, booleans ``(...)``.

    Raises:
        ValueError: There are fewer than two classes, or a logit is NaN or infinity.
    """
    return predicted(first) == predicted(second)


def flip_rate(predictions: Tensor, against: Literal["previous", "first"] = "previous") -> Tensor:
    """Returns how often each clip's predicted class changes (ImageNet-P, Hendrycks & Dietterich 2019).

    Args:
        predictions: Class indices, ``(clips, frames)``, at least two frames.
        against: Compare each frame with the one before, or (for the noise perturbations, whose
            frames have no order) with frame 0.

    Returns:
        Shares in 0..1, float64 ``(clips,)``, on the CPU.

    Raises:
        ValueError: Fewer than two frames, or an unknown comparison.

    Example:
        >>> clip = torch.tensor([[3, 3, 5, 3]])
        >>> round(flip_rate(clip).item(), 3), round(flip_rate(clip, "first").item(), 3)
        (0.667, 0.333)
    """
    if predictions.dim() != 2 or predictions.shape[1] < 2:
        raise ValueError(f"expected (clips, frames >= 2) class indices, got shape {tuple(predictions.shape)}")
    if against not in ("previous", "first"):
        raise ValueError(f"against must be 'previous' or 'first', got {against!r}")
    reference = predictions[:, :-1] if against == "previous" else predictions[:, :1]
    return (predictions[:, 1:] != reference).cpu().double().mean(dim=1)  # mps has no float64


@dataclass(frozen=True)
class Stability:
    """A model's predictions for each of several shifts of each image.

    Attributes:
        offsets: The diagonal offsets d, in pixels: the crop's corner is at (d, d).
        probability: Softmax probability of the image's class at each shift, ``(N, shifts)``.
        prediction: Predicted class at each shift, int64 ``(N, shifts)``.
    """

    offsets: tuple[int, ...]
    probability: Tensor
    prediction: Tensor

    @property
    def wobble(self) -> Tensor:
        """Largest minus smallest probability of each image, ``(N,)``."""
        return wobble(self.probability)


def wobble(probability: Tensor) -> Tensor:
    """Returns the largest minus the smallest probability over the last dimension (the shifts)."""
    return probability.amax(-1) - probability.amin(-1)


def accuracy(model: Model, images: Tensor, targets: Tensor, k: int = 1, batch_size: int = 64) -> Figure:
    """Returns the top-k accuracy, 0..1.

    Args:
        model: A module or callable; see `antialiased_zoo.metrics`.
        images: ``(N, C, H, W)``, already cropped and normalised.
        targets: Class indices, ``(N,)``.
        k: At most the number of classes.
        batch_size: Images in a forward pass.
    """
    meter = Meter()
    with evaluating(model):
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            meter.update(top_k_correct(logits_of(model, images[part]), targets[part], k))
    return meter.figure()


def crop_consistency(
    model: Model,
    images: Tensor,
    size: int = 224,
    offsets: Tensor | None = None,
    seed: int = 0,
    batch_size: int = 64,
) -> Figure:
    """Returns the *crop* consistency, 0..1: how often two crops of one image get the same class (Zhang 2019).

    Args:
        model: A module or callable; see `antialiased_zoo.metrics`.
        images: ``(N, C, H, W)``, normalised, larger than the crop by the largest offset (256 for
            224).
        size: Side of the crops in pixels.
        offsets: Pairs of corners ``(N, pairs, 2, 2)``. Default: one pair for each image from 0..31,
            drawn by :func:`~antialiased_zoo.metrics.shifts.draw_pairs`. ``draw_paper_pairs(N)``
            gives those of the published script.
        seed: Seed of the default offsets.
        batch_size: Images in a forward pass.

    Example:
        >>> model = lambda x: x.mean((2, 3))
        >>> crop_consistency(model, torch.rand(4, 3, 64, 64).cumsum(1), size=32).value
        1.0
    """
    if offsets is None:
        offsets = draw_pairs(torch.arange(len(images)), CROP_OFFSETS, seed=seed)
    return _consistency(model, images, offsets, lambda part, corner: crop(part, corner, size), batch_size)


def circular_consistency(
    model: Model, images: Tensor, offsets: Tensor | None = None, seed: int = 0, batch_size: int = 64
) -> Figure:
    """Returns the *circular* consistency, 0..1: like `crop_consistency`, but for two rolls (Chaman & Dokmanic 2021).

    Args:
        model: A module or callable; see `antialiased_zoo.metrics`.
        images: ``(N, C, H, W)``, already cropped and normalised.
        offsets: Pairs of shifts ``(N, pairs, 2, 2)``. Default: one pair for each image from -32..31.
        seed: Seed of the default offsets.
        batch_size: Images in a forward pass.
    """
    if offsets is None:
        offsets = draw_pairs(torch.arange(len(images)), ROLL_OFFSETS, seed=seed, stream=1)
    return _consistency(model, images, offsets, roll, batch_size)


def _consistency(
    model: Model, images: Tensor, offsets: Tensor, move: Callable[[Tensor, Tensor], Tensor], batch_size: int
) -> Figure:
    if offsets.dim() != 4 or offsets.shape[0] != len(images) or offsets.shape[2:] != (2, 2):
        raise ValueError(f"expected offsets ({len(images)}, pairs, 2, 2), got shape {tuple(offsets.shape)}")
    meter = Meter()
    with evaluating(model):
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            drawn = offsets[start : start + batch_size].to(images.device)
            # (part, 2 * pairs, classes): the first and second of each pair alternate.
            logits = torch.stack(
                [logits_of(model, move(part, shift)) for shift in drawn.flatten(1, 2).unbind(1)], dim=1
            )
            meter.update(agreement(logits[:, 0::2], logits[:, 1::2]))
    return meter.figure()


def diagonal_stability(
    model: Model,
    images: Tensor,
    classes: Tensor | int | None = None,
    size: int = 224,
    offsets: range = DIAGONAL_OFFSETS,
    batch_size: int = 64,
) -> Stability:
    """Returns the probability of a class, and the class predicted, for each diagonal shift of each image.

    Args:
        model: A module or callable; see `antialiased_zoo.metrics`.
        images: ``(N, C, H, W)``, normalised, with sides of at least ``size + offsets[-1]`` (256 for
            224).
        classes: The class of each image ``(N,)``, or one for all. Default: the class predicted at
            the middle shift.
        size: Side of the crops in pixels.
        offsets: Offsets d of the crops, whose corners are at ``(d, d)``.
        batch_size: Crops in a forward pass.

    Raises:
        ValueError: Images too small for the offsets.

    Example:
        >>> result = diagonal_stability(lambda x: x[:, :, 0, 0], torch.rand(1, 3, 256, 256), classes=0)
        >>> result.probability.shape, result.wobble.shape
        (torch.Size([1, 33]), torch.Size([1]))
    """
    count, steps = len(images), len(offsets)
    which = torch.arange(count, device=images.device).repeat_interleave(steps)
    corners = torch.tensor(offsets, device=images.device).repeat(count)[:, None].expand(-1, 2)
    with evaluating(model):
        parts = [slice(start, start + batch_size) for start in range(0, len(which), batch_size)]
        logits = torch.cat([logits_of(model, crop(images[which[part]], corners[part], size)) for part in parts])
    probabilities = logits.float().softmax(1).view(count, steps, -1)
    prediction = predicted(logits).view(count, steps)
    if classes is None:
        classes = prediction[:, steps // 2]
    wanted = torch.as_tensor(classes, device=images.device).expand(count)[:, None, None].expand(-1, steps, 1)
    return Stability(tuple(offsets), probabilities.gather(2, wanted).squeeze(2), prediction)
