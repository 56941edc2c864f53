"""Comparison of a converted safetensors file with the pickle that it was made from."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from .names import COUNTER
from .pickles import read_pickle
from .safetensors_files import read_safetensors

if TYPE_CHECKING:
    import torch


def holds_same(made: Path, source: Path) -> bool:
    """True if each tensor of a converted file is bit-identical to one of its pickle's tensors.

    Names are not compared, since conversion changes them. Batch norm counters that conversion adds
    are zero.

    Args:
        made: The file that `convert` wrote.
        source: The verified pickle.

    Raises:
        CheckpointError: One of the files is corrupt.
    """
    theirs = Counter(_digest(tensor) for tensor in read_pickle(source)[0].values())
    for name, tensor in read_safetensors(made)[0].items():
        digest = _digest(tensor)
        if theirs[digest]:
            theirs[digest] -= 1
        elif not name.endswith(COUNTER) or bool(tensor.any()):
            return False
    return True


def _digest(tensor: torch.Tensor) -> tuple[str, tuple[int, ...], bytes]:
    import torch

    data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b""
    return str(tensor.dtype), tuple(tensor.shape), hashlib.sha256(data).digest()
