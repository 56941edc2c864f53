"""Seeds of any size for torch's generators."""

from __future__ import annotations


def torch_seed(seed: int) -> int:
    """Returns a seed, or a product of seeds and positions, in the range that torch takes: 0 to 2**64 - 1.

    Example:
        >>> torch_seed(7), torch_seed(2**64 + 7)
        (7, 7)
    """
    return seed % 2**64
