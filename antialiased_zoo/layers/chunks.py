"""A large map some images at a time, so that temporaries stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor


def at_once(x: Tensor, most_bytes: int) -> int:
    """How many images of ``x`` make one part."""
    image = x[:1].numel() * x.element_size()
    return max(1, min(len(x), most_bytes // max(1, image)))


def parts(x: Tensor, images: int) -> Iterator[slice]:
    """The parts of ``x``, in order."""
    return (slice(start, min(start + images, len(x))) for start in range(0, len(x), images))
