"""Views: the shifted or corrupted images that measures need; each is made once for all measures.

A *view* of an image is identified by three integers: a kind and two numbers.

====================  ======================  =======================
kind                  first                   second
====================  ======================  =======================
:data:`CROP`          row of the corner       column of the corner
:data:`ROLL`          rows rolled down        columns rolled right
:data:`CORRUPT`       corruption's index      severity
====================  ======================  =======================
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from ..metrics import CORRUPTIONS, corrupt
from .protocols import ShiftProtocol

CROP, ROLL, CORRUPT = 0, 1, 2


class Canvases(NamedTuple):
    """A batch of decoded images.

    Attributes:
        pixels: uint8 ``(N, 3, canvas, canvas)``.
        targets: Class indices, ``(N,)``.
        indices: Image indices in the data set, ``(N,)``.
    """

    pixels: Tensor
    targets: Tensor
    indices: Tensor


class ViewMaker:
    """Makes the views of one batch.

    Args:
        canvases: The batch, on the CPU.
        protocol: Sizes, padding, normalisation.
        device: Device of the views.
        seed: Seed of corruptions.
    """

    def __init__(self, canvases: Canvases, protocol: ShiftProtocol, device: torch.device, seed: int = 0) -> None:
        self.canvases, self.protocol, self.device, self.seed = canvases, protocol, device, seed

    @functools.cached_property
    def images(self) -> Tensor:
        """The normalised, padded canvases, float32 on the device."""
        return self.protocol.padded(self.canvases.pixels.to(self.device, non_blocking=True))

    def make(self, keys: Tensor) -> Tensor:
        """Makes views.

        Args:
            keys: int64 ``(V, 4)`` on the CPU: position in the batch, then the view.

        Returns:
            float32 ``(V, 3, size, size)``, normalised, channels-last, on the device.
        """
        made = torch.empty(
            len(keys), 3, *[self.protocol.size] * 2, device=self.device, memory_format=torch.channels_last
        )
        for view, (which, kind, first, second) in zip(made, keys.tolist(), strict=True):
            view.copy_(self._view(which, kind, first, second))
        return made

    def _view(self, which: int, kind: int, first: int, second: int) -> Tensor:
        centre, size = self.protocol.centre, self.protocol.size
        if kind == CORRUPT:
            return self.protocol.normalise(self._corrupted(which, list(CORRUPTIONS)[first], second))[0]
        if kind == ROLL:
            return _crop(self.images[which], centre, centre, size).roll((first, second), dims=(1, 2))
        return _crop(self.images[which], first, second, size)

    def _corrupted(self, which: int, name: str, severity: int) -> Tensor:
        corner = self.protocol.centre - self.protocol.pad
        clean = _crop(self.canvases.pixels[which], corner, corner, self.protocol.size)
        return corrupt(clean, name, severity, int(self.canvases.indices[which]), self.seed)[None].to(self.device)


def _crop(image: Tensor, row: int, column: int, size: int) -> Tensor:
    return image[:, row : row + size, column : column + size]


def distinct(views: Tensor, protocol: ShiftProtocol) -> tuple[Tensor, Tensor]:
    """Finds the distinct views of a batch.

    Args:
        views: int64 ``(N, V, 3)``, the views of each image.
        protocol: The protocol, whose centre crop equals a roll by zero.

    Returns:
        Keys ``(U, 4)`` for :meth:`ViewMaker.make`, and for each view its key's index, ``(N, V)``.
    """
    still = (views[..., 0] == ROLL) & (views[..., 1:] == 0).all(dim=-1)
    views = torch.where(still[..., None], centre_view(protocol), views)
    which = torch.arange(len(views))[:, None, None].expand(*views.shape[:2], 1)
    keys, inverse = torch.unique(torch.cat([which, views], dim=2).flatten(0, 1), dim=0, return_inverse=True)
    return keys, inverse.view(views.shape[:2])


def centre_view(protocol: ShiftProtocol) -> Tensor:
    """Returns the view of the centre crop, int64 ``(3,)``."""
    return torch.tensor([CROP, protocol.centre, protocol.centre])


def shift_views(kind: int, offsets: Tensor) -> Tensor:
    """Makes views ``(..., 3)`` of a kind from offsets ``(..., 2)``."""
    return torch.cat([torch.full_like(offsets[..., :1], kind), offsets], dim=-1)
