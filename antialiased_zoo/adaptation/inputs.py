"""The inputs that a loader gives, batch by batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

ONLY_IMAGES = "; 1-D and 3-D networks cannot be distilled here: recalibrate and fine-tune them"


def batches_of(loader: Iterable[Any]) -> Iterable[Any]:
    """Return the loader, unless it is one tensor, whose items would be taken for batches.

    Raises:
        TypeError: If it is.
    """
    if isinstance(loader, Tensor):
        raise TypeError(f"expected batches, got one tensor {tuple(loader.shape)}: put it into a list, [images]")
    return loader


def inputs_of(batch: Any) -> Tensor:
    """Return a batch's inputs: the tensor itself, or the first element of a tuple or list.

    Raises:
        TypeError: If that is not a tensor.
    """
    first = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(first, Tensor):
        raise TypeError(
            f"a batch must be a tensor of inputs, or a tuple or list that starts with one, got {type(batch).__name__}; "
            'pass the model\'s inputs, for example (batch["pixel_values"] for batch in loader)'
        )
    return first


def repeated(loader: Iterable[Any], skip: int) -> Iterator[Any]:
    """Yield a loader's batches, again and again, without the first ``skip``.

    Raises:
        ValueError: If the loader gives no batches, the first time or again.
        TypeError: If it is a tensor.
    """
    loader = batches_of(loader)
    if hasattr(loader, "skip"):  # skips batches without loading them
        loader, skip = loader.skip(skip), 0

    def rounds() -> Iterator[Any]:
        for turn in itertools.count():
            count = 0
            for batch in loader:
                count += 1
                yield batch
            if not count:
                raise ValueError(no_batches("the loader", turn > 0))

    return itertools.islice(rounds(), skip, None)


def no_batches(what: str, again: bool) -> str:
    """What an error says of a loader that gave no batches, the first time or when it was read again."""
    advice = " when read again: give a list or a DataLoader, not a generator" if again else ""
    return f"{what} gave no batches{advice}"


def check_size(images: Tensor, reach: int) -> None:
    """Check that there are images, large enough for shifts of ``reach`` pixels in both directions.

    Raises:
        ValueError: If they are not.
    """
    if images.dim() != 4:
        raise ValueError(f"expected batches of images (N, C, H, W), got {tuple(images.shape)}{ONLY_IMAGES}")
    if min(images.shape[-2:]) <= 2 * reach:
        raise ValueError(
            f"images of shape {tuple(images.shape)} are too small for shifts of {reach} pixels: give sides above "
            f"{2 * reach}, or a smaller reach"
        )
    if not len(images):
        raise ValueError("the loader gave an empty batch: leave it out, or drop the last batch (drop_last=True)")
