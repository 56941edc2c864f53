"""The accumulator behind every figure."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .intervals import Figure, average, share


class Meter:
    """Keeps one number, or one row of numbers, per image.

    The figures do not depend on the order of updates and merges, bit for bit: batches and processes may come
    in any order.

    Args:
        kind: ``share`` for hits and misses (Wilson's interval), ``mean`` for other numbers (normal interval).

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
        """Adds images: ``(N,)`` or ``(N, K)``, any real dtype; K the same in every update."""
        self._rows.append(values.detach().to("cpu", torch.float64))

    def merge(self, other: Meter) -> None:
        """Adds what another meter (of another process, say) has seen of other images."""
        self._rows.extend(other._rows)

    @property
    def rows(self) -> Tensor:
        """Everything seen, float64 ``(N,)`` or ``(N, K)``, in the order of arrival; ``(0,)`` if nothing."""
        return torch.cat(self._rows) if self._rows else torch.empty(0, dtype=torch.float64)

    @property
    def per_image(self) -> Tensor:
        """Each image's number, or the mean of its row, float64 ``(N,)``."""
        return self.rows.mean(dim=1) if self.rows.dim() == 2 else self.rows

    def figure(self) -> Figure:
        """Returns the mean over images; the numbers in an image's row are averaged first.

        Raises:
            ValueError: Nothing seen.
        """
        rows = self.rows
        return self._summary(self.per_image, rows.shape[1] if rows.dim() == 2 else 1)

    def figures(self) -> list[Figure]:
        """Returns the mean over images of each of the K columns."""
        return [self._summary(column, 1) for column in self.rows.unbind(1)] if self._rows else []

    def _summary(self, values: Tensor, trials: int) -> Figure:
        return share(values.tolist(), trials) if self.kind == "share" else average(values.tolist())
