"""The measures: accuracy, consistency, stability along the diagonal, and errors under corruptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ..metrics import (
    CORRUPTIONS,
    SEVERITIES,
    Meter,
    agreement,
    draw_pairs,
    draw_paper_pairs,
    predicted,
    top_k_correct,
    wobble,
)
from .probes import Probe, Settings, register_probe
from .protocols import ShiftProtocol
from .views import CORRUPT, CROP, ROLL, centre_view, shift_views

#: Passes of the published script over the data, each with its own pairs.
PAPER_PAIRS = 5


class Accuracy(Probe):
    """Top-1 and (with five classes or more) top-5 accuracy on the centre crop: ``top1``, ``top5``."""

    titles: ClassVar[Mapping[str, str]] = {"top1": "top-1", "top5": "top-5"}

    def __init__(self) -> None:
        super().__init__()
        self.meters["top1"] = Meter()

    def views(self, indices: Tensor, protocol: ShiftProtocol) -> Tensor:
        """Returns the centre crop."""
        return centre_view(protocol).expand(len(indices), 1, 3)

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Adds a batch; see `Probe`."""
        self.meters["top1"].update(top_k_correct(logits[:, 0], targets))
        if logits.shape[-1] >= 5:
            self.meters.setdefault("top5", Meter()).update(top_k_correct(logits[:, 0], targets, 5))

    def merge(self, other: Probe) -> None:
        """Adds another process's measurements, which may have ``top5`` when this probe has no images yet."""
        for name in other.meters:
            self.meters.setdefault(name, Meter())
        super().merge(other)


class Consistency(Probe):
    """Share of pairs of shifts with the same argmax: ``crop_consistency`` or ``circular_consistency``.

    Args:
        kind: ``crop`` or ``circular``; the two are not comparable.
        pairs: Pairs per image.
        seed: Seed of the offsets, which depend only on it and the image's index.
    """

    needs_targets = False
    titles: ClassVar[Mapping[str, str]] = {
        "crop_consistency": "crop consistency",
        "circular_consistency": "circular consistency",
    }

    def __init__(self, kind: Literal["crop", "circular"], pairs: int = 1, seed: int = 0) -> None:
        super().__init__()
        self.kind, self.pairs, self.seed = kind, pairs, seed
        self._paper_images, self._paper_pairs = 0, torch.empty(0)
        self.meter = self.meters[f"{kind}_consistency"] = Meter()

    @classmethod
    def paper(cls, images: int, seed: int = 0) -> Consistency:
        """Returns the crop consistency of the published script, for a data set with this number of images.

        See `draw_paper_pairs`. The script does not seed its generator; here it is NumPy's legacy
        generator with this seed.

        Raises:
            ValueError: That generator does not take the seed.
        """
        if not 0 <= seed < 2**32:
            raise ValueError(f"the published script's generator takes seeds from 0 to 2**32 - 1, got {seed}")
        probe = cls("crop", PAPER_PAIRS, seed)
        probe._paper_images = images
        return probe

    def views(self, indices: Tensor, protocol: ShiftProtocol) -> Tensor:
        """Returns the views of the pairs in order."""
        kind, offsets, stream = (
            (CROP, protocol.require_room().crop_offsets, 0) if self.kind == "crop" else (ROLL, protocol.roll_offsets, 1)
        )
        if not self._paper_images:
            return shift_views(kind, draw_pairs(indices, offsets, self.pairs, self.seed, stream).flatten(1, 2))
        if not len(self._paper_pairs):  # all images' at once, since the script draws them in order
            generator = np.random.RandomState(self.seed)
            self._paper_pairs = draw_paper_pairs(self._paper_images, offsets, passes=self.pairs, generator=generator)
        return shift_views(kind, self._paper_pairs[indices].flatten(1, 2))

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Adds a batch; see `Probe`."""
        self.meter.update(agreement(logits[:, 0::2], logits[:, 1::2]))


class Diagonal(Probe):
    """Diagonal stability: ``diagonal_top1`` and ``diagonal_probability`` for each shift, and ``wobble``.

    ``worst_shift_top1`` is the share of images that are classified correctly at every shift.
    """

    titles: ClassVar[Mapping[str, str]] = {
        "wobble": "wobble (max - min)",
        "diagonal_top1": "top-1 over the diagonal",
        "worst_shift_top1": "top-1 at the worst shift",
    }

    def __init__(self) -> None:
        super().__init__()
        self.meters = {
            "wobble": Meter("mean"),
            "diagonal_probability": Meter("mean"),
            "diagonal_top1": Meter(),
            "worst_shift_top1": Meter(),
        }

    def views(self, indices: Tensor, protocol: ShiftProtocol) -> Tensor:
        """Returns the crops along the diagonal."""
        corners = torch.tensor(protocol.require_room().diagonal_offsets)[:, None].expand(-1, 2)
        return shift_views(CROP, corners).expand(len(indices), -1, 3)

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Adds a batch; see `Probe`."""
        wanted = targets[:, None, None].expand(-1, logits.shape[1], 1)
        probability = logits.softmax(-1).gather(2, wanted).squeeze(2)
        self.meters["wobble"].update(wobble(probability))
        self.meters["diagonal_probability"].update(probability)
        right = predicted(logits) == targets[:, None]
        self.meters["diagonal_top1"].update(right)
        self.meters["worst_shift_top1"].update(right.all(dim=1))


class Corruptions(Probe):
    """Top-1 error under corruptions computed on the fly: ``error_<name>`` by severity, and ``corruption_error``.

    Args:
        names: Names in `CORRUPTIONS`. Default: all.

    Raises:
        ValueError: A corruption is unknown.
    """

    titles: ClassVar[Mapping[str, str]] = {"corruption_error": "corruption error"}

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
        """Adds a batch; see `Probe`."""
        wrong = predicted(logits) != targets[:, None]
        self.meters["corruption_error"].update(wrong)
        for name, errors in zip(self.names, torch.split(wrong, len(SEVERITIES), dim=1), strict=True):
            self.meters[f"error_{name}"].update(errors)


def _crop(settings: Settings) -> Probe:
    if settings.paper:
        return Consistency.paper(settings.images, settings.seed)
    return Consistency("crop", settings.pairs, settings.seed)


def _circular(settings: Settings) -> Probe:
    return Consistency("circular", settings.pairs, settings.seed)


register_probe("accuracy", Accuracy.create, Accuracy.titles)
register_probe("crop", _crop, Consistency.titles)
register_probe("circular", _circular, {})
register_probe("diagonal", Diagonal.create, Diagonal.titles)
register_probe("corruption", Corruptions.create, Corruptions.titles)
