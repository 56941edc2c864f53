"""A verified file -> tensors in a model, under torchvision's names."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import CacheError, CheckpointError, MalformedFileError, NonFiniteError, TensorMismatchError
from .. import hub
from ..hub import cache, stamps
from ..hub.fetching import DEFAULT_RETRY
from ..hub.locks import exclusive
from ..hub.retry import Retry
from ..regular import create
from .names import COUNTER, match
from .pickles import read_pickle

if TYPE_CHECKING:
    import torch
    from torch import nn

_log = logging.getLogger(__name__)
# A header of a million tensors would be 100 MB; networks have hundreds, in tens of kilobytes.
_MAX_HEADER = 8 * 1024 * 1024
_CHUNK = 1 << 18
_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
# Changes whenever the conversion does, so that files made by an older version are made anew.
_CONVERSION = "1"


def load_entry(
    model: nn.Module,
    wanted: hub.Fetchable,
    *,
    omit: Sequence[str] = (),
    progress: bool = True,
    retry: Retry = DEFAULT_RETRY,
) -> Path:
    """Fetch an entry's file, verified, and put its tensors into a model.

    A pickle is converted to safetensors once, beside it; after that the model's memory is mapped
    from there.

    Args:
        model: a network with torchvision's names, on any device: its parameters are replaced, so it
            is best built on the meta device.
        wanted: the manifest's entry.
        omit: beginnings of names (``"fc."``) that are left as they are, for a head of another size.
        progress: show a bar while downloading, if this is a terminal.
        retry: how long to wait for what, and how often to try again.

    Returns:
        The file that the tensors are mapped from.

    Raises:
        FetchError: see :func:`antialiased_zoo.weights.hub.fetch`.
        CheckpointError: the file does not fit the model, or is not sound.

    Example:
        >>> import torch, torchvision
        >>> from antialiased_zoo.weights import manifest
        >>> with torch.device("meta"):
        ...     model = torchvision.models.resnet50()
        >>> path = load_entry(model, manifest.load().find("resnet50", 4))  # doctest: +SKIP
    """
    path = hub.fetch(wanted, progress=progress, retry=retry)
    if not is_safetensors(path):
        path = _converted(path, model, stamps.read(path), omit, retry.lock) or path
    load_into(model, path, omit=omit, known_finite=stamps.is_finite(path))
    if not omit:
        stamps.mark_finite(path)
    return path


def load_into(
    model: nn.Module, path: str | os.PathLike[str], *, omit: Sequence[str] = (), known_finite: bool = False
) -> None:
    """Put the tensors of one file into a model, in place of its parameters and buffers.

    Args:
        model: a network with torchvision's names.
        path: safetensors, or a torch pickle (read with ``weights_only=True``), in torchvision's
            names or the published networks'.
        omit: beginnings of names that are left as they are.
        known_finite: the file has been searched for NaN before.

    Raises:
        CheckpointError: the file does not fit the model, or is not sound; nothing was changed.
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
    """Return a file's tensors under the names of ``wanted``, mapped from the file where that is possible.

    Args:
        path: safetensors or a torch pickle.
        wanted: a model's state dict (the meta device will do): names, shapes and dtypes.
        omit: beginnings of names to leave out.
        known_finite: the file has been searched for NaN before.

    Raises:
        CheckpointError: the file does not fit, or is not sound; the message names file and tensor.
    """
    path = Path(path)
    found = read_tensors(path)
    try:
        return fitted(found, wanted, omit=omit, known_finite=known_finite)
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}") from None


def fitted(
    found: Mapping[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
    *,
    omit: Sequence[str] = (),
    known_finite: bool = False,
) -> dict[str, torch.Tensor]:
    """Return a file's tensors under the names and in the dtypes of ``wanted``; see `read_state`."""
    kept = tuple(omit)
    state = _renamed(found, wanted, omit)
    state = {name: _as(tensor, wanted[name], name) for name, tensor in state.items() if not name.startswith(kept)}
    if not known_finite:
        check_finite(state)
    return state


def read_tensors(path: str | os.PathLike[str]) -> Mapping[str, torch.Tensor]:
    """Return every tensor of a safetensors file or a torch pickle, under the file's own names and in its order.

    Raises:
        CheckpointError: the file is not sound.
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
    """Return a tensor in the dtype of the model's: floating point is converted, all else must be the same."""
    import torch

    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    if tensor.dtype != like.dtype and not (tensor.dtype in floats and like.dtype in floats):
        raise TensorMismatchError(f"tensor {name!r} has dtype {tensor.dtype}, the model's has {like.dtype}")
    return tensor.to(like.dtype)


def check_finite(state: Mapping[str, torch.Tensor]) -> None:
    """Search tensors for NaN and infinity.

    Raises:
        NonFiniteError: one holds some; the message names it.
    """
    for name, tensor in state.items():
        if tensor.is_floating_point():
            flat = tensor.reshape(-1)
            # In pieces: the mask of a whole VGG layer would take 100 MB.
            for start in range(0, flat.numel(), _CHUNK):
                if not bool(flat[start : start + _CHUNK].isfinite().all()):
                    raise NonFiniteError(f"tensor {name!r} holds NaN or infinity")


def is_safetensors(path: Path) -> bool:
    """Tell by content: a length and an opening brace, where pickles and zip archives have their own marks."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    return len(head) == 9 and head[8:] == b"{"


def read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return a safetensors file's tensors, mapped from it, and its metadata.

    Raises:
        MalformedFileError: it is not sound.
    """
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > min(_MAX_HEADER, path.stat().st_size - 8):
        raise MalformedFileError(f"{path} claims a header of {length:,} bytes")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
            return tensors, file.metadata() or {}
    except (SafetensorError, ValueError, RuntimeError, OverflowError, KeyError, AttributeError) as error:
        raise MalformedFileError(f"{path} is no sound safetensors file: {error}") from None


def _converted(
    path: Path, model: nn.Module, stamp: stamps.Stamp | None, omit: Sequence[str], timeout: float
) -> Path | None:
    """Return the safetensors file made of a verified pickle, making it if need be and if the disk allows."""
    made = cache.converted(path)
    if stamp is None:
        return None  # the folder is read-only, or the file lies inside the package
    if _is_converted(made, stamp.sha256):
        return made
    with exclusive(made, timeout):
        cache.sweep(made)
        if _is_converted(made, stamp.sha256):
            return made  # another process was faster
        try:
            convert(path, made, model.state_dict(), source_sha256=stamp.sha256, omit=omit)
            stamps.stamp(made, finite=True)
        except CacheError as error:
            _log.warning("%s is read as it is, slowly: %s", path, error)
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
        path: the pickle.
        made: the file to write; appears complete, or not at all.
        wanted: a model's state dict (the meta device will do).
        source_sha256: digest of the pickle, noted in the new file.
        omit: beginnings of names, such as a head's, whose shapes may differ.

    Raises:
        CheckpointError: the pickle does not fit, or is not sound.
        CacheError: the disk refuses.
    """
    state = _renamed(read_pickle(path, scratch=made.parent), wanted, omit)
    check_finite(state)
    metadata = {"format": "pt", "source_sha256": source_sha256, "conversion": _CONVERSION}
    with cache.disk_errors(made.parent), cache.replacing(made) as temporary, create(temporary) as file:
        _write_safetensors(file, state, metadata)


def _dtype(tensor: torch.Tensor) -> str:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in _DTYPES:
        raise MalformedFileError(f"holds a tensor of dtype {dtype}, which no network of the zoo has")
    return _DTYPES[dtype]


def _write_safetensors(file: io.FileIO, state: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors, with the umask's mode and no temporary file but the one given.

    The library's own `save_file` makes files of mode 0600, and leaves nameless ones behind when it
    is killed.
    """
    import torch

    header: dict[str, object] = {"__metadata__": dict(metadata)}
    start = 0
    for name, tensor in state.items():
        stop = start + tensor.nbytes
        header[name] = {"dtype": _dtype(tensor), "shape": list(tensor.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with io.BufferedWriter(file) as buffered:
        buffered.write(len(text).to_bytes(8, "little") + text)
        for tensor in state.values():
            if tensor.numel():
                buffered.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
