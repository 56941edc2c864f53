"""The measures as :func:`antialiased_zoo.evaluation.loop.evaluate` takes them: which views, and what to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from ..metrics import (
    CORRUPTIONS,
    SEVERITIES,
    Figure,
    Meter,
    agreement,
    draw_pairs,
    draw_paper_pairs,
    top_k_correct,
    wobble,
)
from .protocols import ShiftProtocol
from .views import CORRUPT, CROP, ROLL, centre_view, shift_views


class Probe:
    """One measure of one model.

    Attributes:
        meters: What was measured, by the name that reports use; in 0..1, reported in percent.
        needs_targets: Whether the images' classes matter.
    """

    needs_targets = True

    def __init__(self) -> None:
        self.meters: dict[str, Meter] = {}

    def views(self, indices: Tensor, protocol: ShiftProtocol) -> Tensor:
        """Returns the views to show the model, int64 ``(N, V, 3)``, for images by index."""
        raise NotImplementedError

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Takes in a batch: float32 logits ``(N, V, classes)`` of the views, and class indices ``(N,)``."""
        raise NotImplementedError

    def merge(self, other: Probe) -> None:
        """Takes in what another process measured of other images."""
        for name, meter in other.meters.items():
            self.meters[name].merge(meter)

    def figures(self) -> dict[str, Figure]:
        """Returns each meter's figure, in percent."""
        return {name: meter.figure().times(100) for name, meter in self.meters.items()}

    def columns(self) -> dict[str, list[float]]:
        """Returns the mean of each column, in percent, of each meter with a row per image."""
        rows = {name: meter for name, meter in self.meters.items() if meter.rows.dim() == 2}
        return {name: [100 * mean for mean in meter.means()] for name, meter in rows.items()}


class Accuracy(Probe):
    """Top-1 and (of five classes or more) top-5 accuracy on the centre crop: ``top1``, ``top5``."""

    def __init__(self) -> None:
        super().__init__()
        self.meters["top1"] = Meter()

    def views(self, indices: Tensor, protocol: ShiftProtocol) -> Tensor:
        """Returns the centre crop."""
        return centre_view(protocol).expand(len(indices), 1, 3)

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Takes in a batch; see :class:`Probe`."""
        self.meters["top1"].update(top_k_correct(logits[:, 0], targets))
        if logits.shape[-1] >= 5:
            self.meters.setdefault("top5", Meter()).update(top_k_correct(logits[:, 0], targets, 5))

    def merge(self, other: Probe) -> None:
        """Takes in what another process measured, which may have seen images first."""
        for name in other.meters:
            self.meters.setdefault(name, Meter())
        super().merge(other)


class Consistency(Probe):
    """Share of pairs of shifts with the same argmax: ``crop_consistency`` or ``circular_consistency``.

    Args:
        kind: ``crop`` or ``circular``; the two do not compare.
        pairs: Pairs per image.
        seed: Of the draw, which depends on nothing but it and the image's index.
        table: Offsets ``(images of the data set, pairs, 2, 2)`` to use in place of a draw.
    """

    needs_targets = False

    def __init__(
        self,
        kind: Literal["crop", "circular"],
        pairs: int = 1,
        seed: int = 0,
        table: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.kind, self.pairs, self.seed, self.table = kind, pairs, seed, table
        self.meter = self.meters[f"{kind}_consistency"] = Meter()

    @classmethod
    def paper(cls, images: int, offsets: range, seed: int = 0, batch: int = 8, passes: int = 5) -> Consistency:
        """Returns the published script's crop consistency of a data set of so many images.

        See :func:`~antialiased_zoo.metrics.shifts.draw_paper_pairs`. The script leaves its generator unseeded; here
        it is numpy's legacy generator with this seed.
        """
        import numpy as np

        generator = np.random.RandomState(seed)
        return cls("crop", passes, seed, draw_paper_pairs(images, offsets, batch, passes, generator))

    def views(self, indices: Tensor, protocol: ShiftProtocol) -> Tensor:
        """Returns the pairs, one after the other."""
        kind, offsets, stream = (
            (CROP, protocol.crop_offsets, 0) if self.kind == "crop" else (ROLL, protocol.roll_offsets, 1)
        )
        if self.table is not None:
            drawn = self.table[indices]
        else:
            drawn = draw_pairs(indices, offsets, self.pairs, self.seed, stream)
        return shift_views(kind, drawn.flatten(1, 2))

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Takes in a batch; see :class:`Probe`."""
        self.meter.update(agreement(logits[:, 0::2], logits[:, 1::2]))


class Diagonal(Probe):
    """Diagonal stability: ``diagonal_top1`` and ``diagonal_probability`` for each shift, and ``wobble``."""

    def __init__(self) -> None:
        super().__init__()
        self.meters = {
            "wobble": Meter("mean"),
            "diagonal_probability": Meter("mean"),
            "diagonal_top1": Meter(),
        }

    def views(self, indices: Tensor, protocol: ShiftProtocol) -> Tensor:
        """Returns the crops along the diagonal."""
        corners = torch.tensor(protocol.diagonal_offsets)[:, None].expand(-1, 2)
        return shift_views(CROP, corners).expand(len(indices), -1, 3)

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Takes in a batch; see :class:`Probe`."""
        wanted = targets[:, None, None].expand(-1, logits.shape[1], 1)
        probability = logits.softmax(-1).gather(2, wanted).squeeze(2)
        self.meters["wobble"].update(wobble(probability))
        self.meters["diagonal_probability"].update(probability)
        self.meters["diagonal_top1"].update(logits.argmax(-1) == targets[:, None])


class Corruptions(Probe):
    """Top-1 error under corruptions made here: ``error_<name>`` by severity, ``corruption_error`` over all.

    Args:
        names: Of :data:`~antialiased_zoo.metrics.corruptions.CORRUPTIONS`; by default all.

    Raises:
        ValueError: An unknown corruption.
    """

    def __init__(self, names: Sequence[str] = tuple(CORRUPTIONS)) -> None:
        super().__init__()
        unknown = [name for name in names if name not in CORRUPTIONS]
        if unknown or not names:
            raise ValueError(f"no corruptions {unknown}; there are {', '.join(CORRUPTIONS)}")
        self.names = tuple(names)
        self.meters = {"corruption_error": Meter(), **{f"error_{name}": Meter() for name in names}}

    def views(self, indices: Tensor, protocol: ShiftProtocol) -> Tensor:
        """Returns the centre crop under each corruption at each severity."""
        known = list(CORRUPTIONS)
        levels = [(known.index(name), severity) for name in self.names for severity in SEVERITIES]
        return shift_views(CORRUPT, torch.tensor(levels)).expand(len(indices), -1, 3)

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Takes in a batch; see :class:`Probe`."""
        wrong = logits.argmax(-1) != targets[:, None]
        self.meters["corruption_error"].update(wrong)
        for name, errors in zip(self.names, torch.split(wrong, len(SEVERITIES), dim=1), strict=True):
            self.meters[f"error_{name}"].update(errors)


def figures_of(probes: Mapping[str, Probe]) -> dict[str, dict[str, object]]:
    """Returns the figures of probes by name, for JSON: value, n, low, high, and ``each`` column's value."""
    found: dict[str, dict[str, object]] = {}
    for probe in probes.values():
        for name, figure in probe.figures().items():
            found[name] = dict(figure.as_dict())
        for name, columns in probe.columns().items():
            found[name]["each"] = columns
    return found
