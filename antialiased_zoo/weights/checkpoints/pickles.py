"""Reads torch pickles, old and new, without running their code and without loading tensors into memory."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import pickle
import pickletools
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ...errors import MalformedFileError, UnsafePickleError

if TYPE_CHECKING:
    import torch

# Alignment may make the tensors this much larger than the file; more is refused.
_SLACK = 16 * 1024 * 1024
_ALIGN = 64
# A file in the old format starts with five pickles, followed by the data.
_MOST_PICKLES = 5
# Keys under which training code saves a state dict; averaged weights come first, as they are the ones
# to use.
_WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model_state_dict", "model", "net")


def read_pickle(path: Path, scratch: Path | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors of a torch pickle, in its order and memory-mapped, and the metadata of its modules.

    Args:
        path: A state dict, or a dict that holds one as ``"state_dict"``, ``"model"``,
            ``"state_dict_ema"`` ..., written by ``torch.save`` in the zip format or the older one.
        scratch: A folder for a temporary copy of an old-format file's tensors. Default: the
            system's. If it has no room, they are held in memory.

    Raises:
        UnsafePickleError: The file contains more than tensors in plain containers; none of its code
            was run.
        MalformedFileError: The file is truncated, corrupt or holds no state dict.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":
                _check_zip(path)
                content = _load(path, map_location="cpu", mmap=True)
            else:
                file.seek(0)
                _check_opcodes(path, file)
                content = _load_old(path, scratch)
    except (UnsafePickleError, MalformedFileError):
        raise
    except pickle.UnpicklingError as error:
        raise _reason(path, error) from None
    except Exception as error:  # a corrupt file can make the decoder raise anything
        reason = f"{type(error).__name__}: {_first(error)}"
        raise MalformedFileError(f"{path} is not a readable torch file: {reason}") from None
    state = _state_of(content)
    metadata = getattr(state, "_metadata", None)
    return _tensors(path, state), metadata if isinstance(metadata, dict) else {}


def _state_of(content: Any) -> Any:
    """Return the state dict inside a saved training state."""
    while isinstance(content, Mapping):
        found = next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if not found:
            break
        content = found
    return content


def _load(path: Path, **options: Any) -> Any:
    import torch

    return torch.load(path, weights_only=True, **options)


def _check_zip(path: Path) -> None:
    """Refuse archives that torch does not write, and pickles in them that `_check_opcodes` refuses.

    Compressed members could expand to any size. Torch reads with a zip reader of its own: only where
    all readers find the same directory, and no two members have one name for any of them, is it clear
    that the pickles checked here are all that it could read.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if packed or sum(member.file_size for member in members) > path.stat().st_size:
            raise MalformedFileError(f"{path} contains compressed or overlapping data, unlike any torch file")
        names = {member.filename.casefold() for member in members}
        if len(names) < len(members) or not _has_one_directory(path, members):
            raise MalformedFileError(f"{path} has names or a directory that can be read in two ways: no torch file has")
        for member in members:
            if member.filename.casefold().endswith("data.pkl"):
                _check_opcodes(path, io.BytesIO(archive.read(member)))


def _has_one_directory(path: Path, members: list[zipfile.ZipInfo]) -> bool:
    """True if the archive begins with the file and ends with it, so that no record can point elsewhere."""
    with path.open("rb") as file:
        file.seek(-min(98, path.stat().st_size), os.SEEK_END)
        wide, locator, end = (rest := file.read())[:-42], rest[-42:-22], rest[-22:]
    whole = end.startswith(b"PK\5\6") and end.endswith(b"\0\0")  # no comment, which could hold another end
    if locator.startswith(b"PK\6\7"):
        at = int.from_bytes(locator[8:16], "little")
        whole = whole and wide.startswith(b"PK\6\6") and at == path.stat().st_size - 98
    # Python adds the number of bytes before the archive to all positions, so a first member at 0 means none.
    return whole and min((member.header_offset for member in members), default=0) == 0


def _check_opcodes(path: Path, file: IO[bytes]) -> None:
    """Refuse ``bytearray``, which torch's own reader would call with any size, such as ``8 << 30``.

    Everything else that a pickle can create is no larger than its bytes in the file.
    """
    if any(name in ("builtins bytearray", "__builtin__ bytearray") for name in _arguments(file)):
        raise UnsafePickleError(f"{path} creates a bytearray, which weights do not need; none of its code was run")


def _arguments(file: IO[bytes]) -> Iterator[object]:
    """Yield the arguments of all opcodes; for a stream that is not a pickle, torch's reader raises the error later."""
    with contextlib.suppress(ValueError, IndexError, OverflowError, MemoryError):
        for _ in range(_MOST_PICKLES):
            yield from (argument for _, argument, _ in pickletools.genops(file))


def _load_old(path: Path, scratch: Path | None) -> Any:
    """Read the format of torch before 1.6 into storages that are mapped from a temporary file."""
    import torch

    room = path.stat().st_size + _SLACK
    memory = _mapped(room, scratch)
    if memory is None:
        return _load(path, map_location="cpu")
    used = 0

    def place(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
        nonlocal used
        start, size = used, storage.nbytes()
        used = -(-(start + size) // _ALIGN) * _ALIGN
        if used > room:
            raise MalformedFileError(f"{path} claims more bytes of tensors than the file holds")
        if size == 0:
            return storage
        return torch.frombuffer(memory, dtype=torch.uint8, count=size, offset=start).untyped_storage()

    return _load(path, map_location=place)


def _mapped(room: int, folder: Path | None) -> mmap.mmap | None:
    """Return memory backed by a temporary file, or ``None`` if the disk has no room."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                # Allocate the space now: a disk that fills up while pages are written would kill the
                # process.
                os.posix_fallocate(file.fileno(), 0, room)
            elif shutil.disk_usage(folder or tempfile.gettempdir()).free < room:
                return None
            file.truncate(room)
            return mmap.mmap(file.fileno(), room)
    except OSError:
        return None


def _reason(path: Path, error: pickle.UnpicklingError) -> Exception:
    words = ("global", "class", "new object", "can only build")  # unlike errors for bytes that are not a pickle
    lines = [line.strip() for line in str(error).splitlines()]
    what = next((line for line in lines if any(word in line.lower() for word in words)), "")
    if what and "operand" not in what:
        return UnsafePickleError(
            f"{path} contains more than tensors, and was refused without running any of its code: {what[:300]} "
            "Get the file from a source that you trust."
        )
    return MalformedFileError(f"{path} is not a readable torch file: {what or _first(error)}")


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]


def _tensors(path: Path, content: Any) -> dict[str, torch.Tensor]:
    import torch

    if not isinstance(content, Mapping) or not content:
        raise MalformedFileError(f"{path} does not hold a state dict but {type(content).__name__}")
    tensors = {}
    for name, value in content.items():
        plain = isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        if not isinstance(name, str) or not plain or value.is_quantized:
            raise MalformedFileError(f"{path}: {str(name)[:80]!r} is not a plain tensor but {type(value).__name__}")
        tensors[name] = value.detach()
    return tensors
