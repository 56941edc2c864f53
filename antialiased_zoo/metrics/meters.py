"""Meters, which accumulate values per image and compute figures."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from .intervals import ROUNDING, Figure, average, share, share_difference


class Meter:
    """Accumulates one number, or one row of numbers, per image.

    Figures are bit-identical for any order of updates and merges.

    Args:
        kind: ``share`` for hits and misses, ``mean`` for other numbers in 0..1; it determines the
            interval.

    Example:
        >>> meter = Meter()
        >>> meter.update(torch.tensor([True, False, True, True]))
        >>> meter.figure().value
        0.75
    """

    def __init__(self, kind: Literal["share", "mean"] = "share") -> None:
        self.kind = kind
        self._rows: list[Tensor] = []

    def update(self, values: Tensor) -> None:
        """Adds the values of images: ``(N,)`` or ``(N, K)``, any real dtype, with the same K in every update.

        Raises:
            ValueError: The values have another shape, or one is NaN or not in 0..1.
        """
        rows = values.detach().cpu().double()  # first the device: mps has no float64
        if rows.dim() not in (1, 2) or (self._rows and rows.shape[1:] != self._rows[0].shape[1:]):
            before = f" after {tuple(self._rows[0].shape)}" if self._rows else ""
            raise ValueError(f"expected values (N,) or (N, K), always with the same K, got {tuple(rows.shape)}{before}")
        if bool(rows.isnan().any()):
            raise ValueError("one of the values is NaN, which has no mean")
        outside = rows[(rows < -ROUNDING) | (rows > 1 + ROUNDING)]
        if len(outside):
            raise ValueError(f"a meter takes numbers from 0 to 1, got {outside[0]:g}: divide percent by 100")
        self._rows.append(rows)

    def merge(self, other: Meter) -> None:
        """Adds another meter's values, for example those of another process."""
        self._rows.extend(other._rows)

    @property
    def rows(self) -> Tensor:
        """All values, float64 ``(N,)`` or ``(N, K)``, in the order of the updates; ``(0,)`` if there are none."""
        return torch.cat(self._rows) if self._rows else torch.empty(0, dtype=torch.float64)

    @property
    def per_image(self) -> Tensor:
        """Each image's number, or the mean of its row, float64 ``(N,)``."""
        return self.rows.mean(dim=1) if self.rows.dim() == 2 else self.rows

    def figure(self) -> Figure:
        """Returns the mean over images; an image's row is averaged first.

        Raises:
            ValueError: There are no values.
        """
        rows, values = self.rows, self.per_image.tolist()
        return share(values, rows.shape[1] if rows.dim() == 2 else 1) if self.kind == "share" else average(values)

    def means(self) -> list[float]:
        """Returns the mean over images of each of the K columns."""
        return [math.fsum(column.tolist()) / len(column) for column in self.rows.unbind(1)] if self._rows else []

    def difference(self, baseline: Meter) -> Figure:
        """Returns this meter's mean minus that of a baseline for the same images in the same order.

        The comparison is paired, so its interval is narrower than those of the two figures suggest.

        Raises:
            ValueError: The meters have values of different numbers of images.
        """
        own, other = self.per_image, baseline.per_image
        if len(own) != len(other):
            raise ValueError(f"{len(own)} and {len(other)} images: a paired difference needs the same ones in both")
        change = (own - other).tolist()
        return share_difference(change) if self.kind == "share" else average(change, lowest=-1.0)
