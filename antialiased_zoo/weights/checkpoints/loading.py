"""Loads a verified file's tensors into a model, under torchvision's names."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import CacheError, CheckpointError, NonFiniteError, TensorMismatchError
from .. import hub
from ..atomic_files import replacing
from ..hub import cache, stamps
from ..hub.locks import exclusive
from ..hub.retry import DEFAULT_RETRY
from ..regular import create
from .names import COUNTER, match
from .pickles import read_pickle
from .safetensors_files import dtype_name, is_safetensors, read_safetensors, write_safetensors

if TYPE_CHECKING:
    import torch
    from torch import nn

_log = logging.getLogger(__name__)
_CHUNK = 1 << 18
# Changed with the conversion, so that files of an older version are converted again.
_CONVERSION = "1"


def load_entry(
    model: nn.Module,
    wanted: hub.Fetchable,
    *,
    omit: Sequence[str] = (),
    progress: bool = True,
) -> Path:
    """Fetch and verify an entry's file, and load its tensors into a model.

    A pickle is converted once to a safetensors file in the same folder; the model's tensors are
    then memory-mapped from that file.

    Args:
        model: A network with torchvision's names, on any device. Its parameters are replaced, so it
            is best built on the meta device.
        wanted: The manifest's entry.
        omit: Name prefixes (``"fc."``) of tensors to keep unchanged, for a head of another size.
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
        path = _converted(path, model, stamps.read(path), omit, DEFAULT_RETRY.lock) or path
    load_into(model, path, omit=omit, known_finite=stamps.is_finite(path))
    if not omit:
        stamps.mark_finite(path)
    return path


def load_into(
    model: nn.Module, path: str | os.PathLike[str], *, omit: Sequence[str] = (), known_finite: bool = False
) -> None:
    """Replace a model's parameters and buffers by the tensors of a file.

    Args:
        model: A network with torchvision's names.
        path: A safetensors file, or a torch pickle (read with ``weights_only=True``), with the names
            of torchvision or of the published networks.
        omit: Name prefixes of tensors to keep unchanged.
        known_finite: True if the file was checked for NaN before.

    Raises:
        CheckpointError: The file does not fit the model, or is corrupt. The model is then unchanged.
    """
    state = read_state(path, model.state_dict(), omit=omit, known_finite=known_finite)
    model.load_state_dict(state, strict=False, assign=True)


def read_state(
    path: str | os.PathLike[str],
    wanted: Mapping[str, torch.Tensor],
    *,
    omit: Sequence[str] = (),
    known_finite: bool = False,
) -> dict[str, torch.Tensor]:
    """Return a file's tensors under the names of ``wanted``, memory-mapped if possible.

    Args:
        path: A safetensors file or a torch pickle.
        wanted: A model's state dict, on any device: names, shapes and dtypes.
        omit: Name prefixes of tensors to leave out.
        known_finite: True if the file was checked for NaN before.

    Raises:
        CheckpointError: The file does not fit, or is corrupt; the message names the file and the
            tensor.
    """
    path = Path(path)
    return fitted(path, read_tensors(path), wanted, omit=omit, known_finite=known_finite)


def fitted(
    path: Path,
    found: Mapping[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
    *,
    omit: Sequence[str] = (),
    known_finite: bool = False,
) -> dict[str, torch.Tensor]:
    """Return a file's tensors under the names and in the dtypes of ``wanted``; see `read_state`."""
    kept = tuple(omit)
    try:
        state = _renamed(found, wanted, omit)
        state = {name: _as(tensor, wanted[name], name) for name, tensor in state.items() if not name.startswith(kept)}
        if not known_finite:
            check_finite(state)
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}") from None
    return state


def read_tensors(path: str | os.PathLike[str]) -> Mapping[str, torch.Tensor]:
    """Return every tensor of a safetensors file or a torch pickle, under the file's own names and in its order.

    Raises:
        CheckpointError: The file is corrupt.
    """
    path = Path(path)
    return read_safetensors(path)[0] if is_safetensors(path) else read_pickle(path)


def _renamed(
    found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], omit: Sequence[str]
) -> dict[str, torch.Tensor]:
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    pairs = match(shapes, {name: tuple(tensor.shape) for name, tensor in wanted.items()}, omit)
    state = {name: found[other] for name, other in pairs.items()}
    for name, tensor in wanted.items():
        if name.endswith(COUNTER) and name not in state:
            state[name] = tensor.new_zeros(tensor.shape, device="cpu")
    return state


def _as(tensor: torch.Tensor, like: torch.Tensor, name: str) -> torch.Tensor:
    """Convert a floating-point tensor to the model's dtype; other dtypes must be equal."""
    import torch

    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    if tensor.dtype != like.dtype and not (tensor.dtype in floats and like.dtype in floats):
        raise TensorMismatchError(f"tensor {name!r} has dtype {tensor.dtype}, but the model's has {like.dtype}")
    return tensor.to(like.dtype)


def check_finite(state: Mapping[str, torch.Tensor]) -> None:
    """Check that tensors hold no NaN or infinity.

    Raises:
        NonFiniteError: A tensor holds NaN or infinity; the message names it.
        MalformedFileError: A tensor has a dtype of fewer than 16 bits, of which torch cannot tell.
    """
    for name, tensor in state.items():
        if tensor.is_floating_point():
            dtype_name(tensor, name)
            flat = tensor.reshape(-1)
            # In chunks: the mask for a whole VGG layer would take 100 MB.
            for start in range(0, flat.numel(), _CHUNK):
                if not bool(flat[start : start + _CHUNK].isfinite().all()):
                    raise NonFiniteError(f"tensor {name!r} holds NaN or infinity")


def _converted(
    path: Path, model: nn.Module, stamp: stamps.Stamp | None, omit: Sequence[str], timeout: float
) -> Path | None:
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
            convert(path, made, model.state_dict(), source_sha256=stamp.sha256, omit=omit)
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


def convert(
    path: Path,
    made: Path,
    wanted: Mapping[str, torch.Tensor],
    *,
    source_sha256: str,
    omit: Sequence[str] = (),
) -> None:
    """Write a pickle's tensors as safetensors, under the names of ``wanted``.

    Args:
        path: The pickle.
        made: The file to write; it appears complete, or not at all.
        wanted: A model's state dict, on any device.
        source_sha256: Digest of the pickle, recorded in the new file.
        omit: Name prefixes, such as a head's, of tensors whose shapes may differ.

    Raises:
        CheckpointError: The pickle does not fit, or is corrupt.
        CacheError: The file cannot be written.
    """
    state = _renamed(read_pickle(path, scratch=made.parent), wanted, omit)
    check_finite(state)
    metadata = {"format": "pt", "source_sha256": source_sha256, "conversion": _CONVERSION}
    with cache.disk_errors(made.parent), replacing(made) as temporary, create(temporary) as file:
        write_safetensors(file, state, metadata)
