"""Safetensors files: recognised, read and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import CheckpointError, MalformedFileError

if TYPE_CHECKING:
    import torch

# Networks have hundreds of tensors, which need tens of kilobytes.
_MAX_HEADER = 8 * 1024 * 1024
_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


def is_safetensors(path: Path) -> bool:
    """True if a file starts like safetensors: with a length and an opening brace, unlike pickles and zip archives."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    return len(head) == 9 and head[8:] == b"{"


def read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return a safetensors file's tensors, mapped from it, and its metadata.

    Raises:
        MalformedFileError: The file is corrupt.
    """
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > min(_MAX_HEADER, path.stat().st_size - 8):
        raise MalformedFileError(f"{path} claims a header of {length:,} bytes")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            return tensors, file.metadata() or {}
    except (SafetensorError, ValueError, RuntimeError, OverflowError, KeyError, AttributeError) as error:
        raise MalformedFileError(f"{path} is not a valid safetensors file: {error}") from None


def dtype_name(tensor: torch.Tensor, name: str) -> str:
    """Return safetensors' name of a tensor's dtype.

    Raises:
        MalformedFileError: There is none; the message names the tensor.
    """
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in _DTYPES:
        raise MalformedFileError(f"tensor {name!r} has dtype {dtype}, which no network of the zoo has")
    return _DTYPES[dtype]


def write_safetensors(path: Path, state: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors into a new file, which has the mode that the umask sets.

    The library's own `save_file` creates files with mode 0600, and leaves temporary files behind
    when it is killed.
    """
    import torch

    header: dict[str, object] = {"__metadata__": dict(metadata)}
    start = 0
    for name, tensor in state.items():
        stop = start + tensor.nbytes
        header[name] = {"dtype": dtype_name(tensor, name), "shape": list(tensor.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in state.values():
            if tensor.numel():
                file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
