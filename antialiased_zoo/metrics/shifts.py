"""Shifts of images: random offsets, crops and rolls.

An offset is ``(rows, columns)`` in pixels. A *crop* offset is the top-left corner of the crop; a
*roll* offset moves the content down and right and wraps it around, as ``torch.roll`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np

CROP_OFFSETS = range(32)
ROLL_OFFSETS = range(-32, 32)
DIAGONAL_OFFSETS = range(33)


def draw_pairs(indices: Tensor, offsets: range, pairs: int = 1, seed: int = 0, stream: int = 0) -> Tensor:
    """Draws pairs of offsets for each image, which depend only on the seed, the stream and the image's index.

    A counter-based generator (Philox 4x64) has one counter per image, so the offsets do not depend
    on batches, workers, processes or other images.

    Args:
        indices: Image indices in the data set, ``(N,)``, not negative.
        offsets: The offsets to draw from, uniformly.
        pairs: Pairs per image.
        seed: A non-negative seed.
        stream: Streams have different offsets for the same seed.

    Returns:
        int64 ``(N, pairs, 2, 2)``: pair, first or second of it, row or column.

    Raises:
        ValueError: There are no offsets, fewer than one pair, or a negative seed.

    Example:
        >>> draw_pairs(torch.tensor([7]), range(32)).shape
        torch.Size([1, 1, 2, 2])
    """
    import numpy as np

    if not len(offsets) or pairs < 1 or seed < 0:
        raise ValueError(f"need offsets, pairs >= 1 and seed >= 0, got {offsets}, pairs={pairs}, seed={seed}")
    raw = [_raw(index, seed, stream, 4 * pairs) for index in indices.tolist()]
    # NumPy guarantees the raw stream across versions, but not its mapping to ranges. So map here:
    # the high half of 32 random bits times the range, whose bias is below range / 2**32.
    high = np.asarray(raw, dtype=np.uint64).reshape(-1, pairs, 2, 2) >> np.uint64(32)
    drawn = torch.from_numpy(((high * np.uint64(len(offsets))) >> np.uint64(32)).astype(np.int64))
    return offsets.start + offsets.step * drawn


def image_seed(index: int, seed: int, stream: int) -> int:
    """Returns a 63-bit seed for other random numbers of one image, from the generator of :func:`draw_pairs`."""
    return int(_raw(index, seed, stream, 1)[0]) >> 1


def _raw(index: int, seed: int, stream: int, count: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    import numpy as np

    # Its key has 128 bits.
    return np.random.Philox(key=seed % 2**128, counter=[0, 0, stream, index]).random_raw(count)


def draw_paper_pairs(
    images: int,
    offsets: range = CROP_OFFSETS,
    batch: int = 8,
    passes: int = 5,
    generator: np.random.RandomState | None = None,
) -> Tensor:
    """Draws offsets like the published evaluation script: one pair for each batch of each pass.

    (antialiased-cnns ``main.py``: ``numpy.random.randint``, first offset then second, batch after
    batch, pass after pass, images in order; its README uses batches of 8.)

    Args:
        images: Number of images in the data set.
        offsets: The offsets to draw from, in steps of 1.
        batch: Number of images that share a pair.
        passes: Passes over the data.
        generator: A legacy NumPy generator. Default: NumPy's global one, as in the script.

    Returns:
        int64 ``(images, passes, 2, 2)``, as from :func:`draw_pairs`, for the images
        ``0 .. images - 1``.

    Example:
        >>> import numpy as np
        >>> draw_paper_pairs(20, generator=np.random.RandomState(0)).shape
        torch.Size([20, 5, 2, 2])
    """
    import numpy as np

    if min(images, batch, passes) < 1 or offsets.step != 1:
        given = f"images={images}, batch={batch}, passes={passes}, {offsets}"
        raise ValueError(f"need images, batch and passes of at least 1 and offsets in steps of 1, got {given}")
    randint = generator.randint if generator is not None else np.random.randint
    drawn = randint(offsets.start, offsets.stop, size=(passes, -(-images // batch), 2, 2))
    return torch.from_numpy(drawn).long().repeat_interleave(batch, dim=1)[:, :images].transpose(0, 1)


def crop(images: Tensor, corners: Tensor, size: int) -> Tensor:
    """Crops a square from each image at its own position.

    Args:
        images: ``(N, C, H, W)``.
        corners: int64 ``(N, 2)``, top row and left column.
        size: Side of the square in pixels.

    Returns:
        ``(N, C, size, size)`` in channels-last memory.

    Raises:
        ValueError: A square reaches outside its image.
    """
    limits = torch.tensor(images.shape[2:], device=corners.device) - size
    if bool((corners < 0).any()) or bool((corners > limits).any()):
        raise ValueError(
            f"a crop of {size} at {corners.amin(0).tolist()} to {corners.amax(0).tolist()} reaches outside images of "
            f"{images.shape[2]}x{images.shape[3]}; give larger images or smaller offsets"
        )
    return take(images, _steps(images, size) + corners[:, :1], _steps(images, size) + corners[:, 1:])


def roll(images: Tensor, shifts: Tensor) -> Tensor:
    """Shifts each image by its own ``(rows, columns)`` int64 ``(N, 2)``, wrapping around."""
    height, width = images.shape[2:]
    rows = (_steps(images, height) - shifts[:, :1]) % height
    return take(images, rows, (_steps(images, width) - shifts[:, 1:]) % width)


def take(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Gathers ``images[n, :, rows[n], columns[n]]`` for every n.

    Args:
        images: ``(N, C, H, W)``; fastest in channels-last memory.
        rows: int64 ``(N, h)``.
        columns: int64 ``(N, w)``.

    Returns:
        ``(N, C, h, w)`` in channels-last memory.
    """
    count, channels, height, width = images.shape
    which = torch.arange(count, device=images.device)
    # On a CPU, index_select is several times faster than indexing with three tensors.
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
    places = (which[:, None] * height + rows)[:, :, None] * width + columns[:, None, :]
    picked = pixels.index_select(0, places.flatten()).view(*places.shape, channels)
    return picked.permute(0, 3, 1, 2)


def _steps(images: Tensor, count: int) -> Tensor:
    return torch.arange(count, device=images.device)
