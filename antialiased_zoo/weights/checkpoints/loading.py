"""Loads a verified file's tensors into a model, under torchvision's names."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import CacheError
from .. import hub
from ..atomic_files import replacing
from ..hub import cache, stamps
from ..hub.locks import exclusive
from ..hub.retry import DEFAULT_RETRY
from .contents import check_finite, read_contents, renamed
from .pickles import read_pickle
from .safetensors_files import is_safetensors, write_safetensors

if TYPE_CHECKING:
    import torch
    from torch import nn

_log = logging.getLogger(__name__)
# Changed with the conversion, so that files of an older version are converted again.
_CONVERSION = "1"


def load_entry(model: nn.Module, wanted: hub.Fetchable, *, progress: bool = True) -> Path:
    """Fetch and verify an entry's file, and load its tensors into a model.

    A pickle is converted once to a safetensors file in the same folder; the model's tensors are
    then memory-mapped from that file.

    Args:
        model: A network with torchvision's names, on any device. Its parameters are replaced, so it
            is best built on the meta device.
        wanted: The manifest's entry.
        progress: Show a progress bar during downloads, on a terminal.

    Returns:
        The file that the tensors are mapped from.

    Raises:
        FetchError: See :func:`antialiased_zoo.weights.hub.fetch`.
        CheckpointError: The file does not fit the model, or is corrupt.

    Example:
        >>> import torch, torchvision
        >>> from antialiased_zoo.weights import manifest
        >>> with torch.device("meta"):
        ...     model = torchvision.models.resnet50()
        >>> path = load_entry(model, manifest.load().find("resnet50", 4))  # doctest: +SKIP
    """
    path = hub.fetch(wanted, progress=progress)
    if not is_safetensors(path):
        path = _converted(path, model, stamps.read(path), DEFAULT_RETRY.lock) or path
    read_contents(path).load_into(model, known_finite=stamps.is_finite(path))
    stamps.mark_finite(path)
    return path


def load_into(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Replace a model's parameters and buffers by the tensors of a file.

    Args:
        model: A network with torchvision's names.
        path: A safetensors file, or a torch pickle (read with ``weights_only=True``), with the names
            of torchvision or of the published networks.

    Raises:
        CheckpointError: The file does not fit the model, or is corrupt. The model is then unchanged.
    """
    read_contents(path).load_into(model)


def read_state(path: str | os.PathLike[str], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a file's tensors under the names of ``wanted``; see `Contents.fitted`."""
    return read_contents(path).fitted(wanted)


def _converted(path: Path, model: nn.Module, stamp: stamps.Stamp | None, timeout: float) -> Path | None:
    """Return the safetensors file of a verified pickle, converting it if necessary; None if the disk forbids it."""
    made = cache.converted(path)
    if stamp is None:
        return None  # the folder is read-only, or the file is inside the package
    if _is_converted(made, stamp.sha256):
        return made
    with exclusive(made, timeout):
        if _is_converted(made, stamp.sha256):
            return made  # another process was faster
        try:
            convert(path, made, model.state_dict(), source_sha256=stamp.sha256)
            stamps.stamp(made, finite=True)
        except CacheError as error:
            _log.warning("%s is read without conversion, which is slower: %s", path, error)
            return None
    return made


def _is_converted(made: Path, source_sha256: str) -> bool:
    if not made.exists() or stamps.intact(made) is None:
        return False
    try:
        from safetensors import SafetensorError, safe_open

        with safe_open(made, framework="pt") as file:
            facts = file.metadata() or {}
    except (SafetensorError, OSError):
        return False
    return facts.get("source_sha256") == source_sha256 and facts.get("conversion") == _CONVERSION


def convert(path: Path, made: Path, wanted: Mapping[str, torch.Tensor], *, source_sha256: str) -> None:
    """Write a pickle's tensors as safetensors, under the names of ``wanted``.

    Args:
        path: The pickle.
        made: The file to write; it appears complete, or not at all.
        wanted: A model's state dict, on any device.
        source_sha256: Digest of the pickle, recorded in the new file.

    Raises:
        CheckpointError: The pickle does not fit, or is corrupt.
        CacheError: The file cannot be written.
    """
    state = renamed(read_pickle(path, scratch=made.parent)[0], wanted)
    check_finite(state)
    metadata = {"format": "pt", "source_sha256": source_sha256, "conversion": _CONVERSION}
    with cache.disk_errors(made.parent), replacing(made) as temporary:
        write_safetensors(temporary, state, metadata)
