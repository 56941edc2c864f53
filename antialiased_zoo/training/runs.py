"""A training run's folder: atomic checkpoints, weights named by their digest, and their record."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ..errors import MalformedFileError
from ..weights import NetworkConfig, Preprocessing, replacing
from .settings import State, check_settings


class RunFolder:
    """The folder of one run, with its checkpoint, weights and record.

    Args:
        path: The folder; created if it does not exist.

    Raises:
        OSError: There is a file in its place, or nothing can be written there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = made_folder(path)

    @property
    def checkpoint(self) -> Path:
        """Path of the latest checkpoint, which may not exist yet."""
        return self.path / "checkpoint.pt"

    def save_checkpoint(self, state: State) -> None:
        """Replaces the checkpoint atomically: a killed process leaves the old one or the new one.

        Raises:
            OSError: It cannot be written, for example because the disk is full; the old one is left.
        """
        with replacing(self.checkpoint) as temporary:
            try:
                torch.save(state, temporary)
            except RuntimeError as error:
                if "inline_container" not in str(error):  # the file that does the writing, which counts bytes
                    raise  # such as an error of the GPU
                raise OSError(
                    f"cannot write {self.checkpoint}: the disk is full, or the checkpoint exceeds a limit; make room "
                    "and repeat the command, which goes on from the checkpoint before"
                ) from error

    def load_checkpoint(self, identity: State) -> State | None:
        """Returns the checkpoint, or ``None`` for a fresh run.

        Args:
            identity: The settings that the run must share with the checkpoint.

        Raises:
            ValueError: The checkpoint is of a run with other settings; the message names them.
        """
        state = self.read_checkpoint()
        if state is not None:
            check_settings(self.checkpoint, state["identity"], identity)
        return state

    def check(self, some: State) -> None:
        """Raises what `load_checkpoint` would, where only some of the settings are known yet."""
        state = self.read_checkpoint()
        if state is not None:
            saved = state["identity"]
            check_settings(self.checkpoint, {key: saved[key] for key in some if key in saved}, some)

    def read_checkpoint(self) -> State | None:
        """Returns the checkpoint, whatever its settings, or ``None`` if there is none.

        Raises:
            MalformedFileError: The file is not a checkpoint, or a part of one.
        """
        if not self.checkpoint.exists():
            return None
        try:
            state: State = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            state["identity"]
        except OSError:  # it cannot be read, which says nothing about its content
            raise
        # torch raises half a dozen kinds of errors for what is not its own.
        except Exception as error:
            reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
            raise MalformedFileError(
                f"{self.checkpoint} is not a whole checkpoint ({reason}): delete it to start the run again, or choose "
                "another folder"
            ) from error
        return state

    def save_weights(
        self, tensors: Mapping[str, Tensor], stem: str, preprocessing: Preprocessing, **facts: Any
    ) -> Path:
        """Writes half-precision safetensors as ``<stem>-<first 8 hex digits of its SHA-256>.safetensors``.

        If the state dict is of a network of the zoo, the file records its structure.

        Args:
            tensors: A state dict. Integer tensors keep their dtype, and so do tensors that exceed
                the range of half precision (running variances may exceed 65,504).
            stem: ``<model>[_lpf<filter size>]_<recipe>``.
            preprocessing: The preprocessing of the network's inputs, for the record.
            **facts: Further fields of the record, from `NetworkConfig`, such as ``classes``.
        """
        halved = {name: _halved(tensor).contiguous().cpu() for name, tensor in tensors.items()}
        content = save(halved, _metadata(tensors, {"preprocessing": preprocessing, **facts}))
        path = self.path / f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}.safetensors"
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        return path

    def save_record(self, record: State, weights: Path) -> Path:
        """Writes the record next to the weights, under the same name with ``.json``."""
        path = weights.with_suffix(".json")
        write_json(path, record, indent=2)
        return path


def made_folder(path: str | os.PathLike[str]) -> Path:
    """Returns a folder for results, made if need be.

    Raises:
        OSError: There is a file in its place, or nothing can be written there.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise type(error)(f"{folder} must be a folder, but it is a file or in one: choose another name") from error
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise type(error)(
            error.errno, f"nothing can be written into this folder ({error.strerror})", str(folder)
        ) from error
    return folder


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 (hex) of tensors with their names, dtypes and shapes, wherever they come from."""
    total = hashlib.sha256()
    for name, tensor in tensors.items():
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def load_weights(path: Path) -> dict[str, Tensor]:
    """Reads a file of :meth:`RunFolder.save_weights` as float32."""
    stored = load_file(path)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in stored.items()}


def manifest_entry(weights: Path, facts: State) -> State:
    """Returns an entry for ``weights_manifest.json``, for a file inside the package.

    Args:
        weights: A file of :meth:`RunFolder.save_weights`.
        facts: The entry's other fields; see :class:`antialiased_zoo.weights.entry.Entry`.
    """
    content = weights.read_bytes()
    file = {
        "file": weights.name,
        "format": "safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "sources": [f"package:{weights.name}"],
    }
    return {**facts, **file}


def versions() -> dict[str, str]:
    """Returns the versions of the software that computes a result."""
    import torchvision

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": str(torch.version.cuda) if torch.cuda.is_available() else "none",
    }


def _metadata(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> dict[str, str] | None:
    stated = getattr(tensors, "_metadata", {}).get("", {}).get(NetworkConfig.KEY)
    if stated is None:
        return None
    # Only one key, since safetensors writes several in random order, which would change the digest.
    return {NetworkConfig.KEY: replace(NetworkConfig.from_json(stated), **facts).to_json()}


def _halved(tensor: Tensor) -> Tensor:
    half = tensor.half() if tensor.is_floating_point() else tensor
    return half if half.isfinite().all() else tensor


def write_json(path: Path, record: Any, *, indent: int = 1, sort_keys: bool = False) -> None:
    """Writes a record, and its folder if need be; if that is interrupted, the file is the old one.

    Args:
        path: The file, which is replaced.
        record: What JSON can hold.
        indent: Spaces of indentation.
        sort_keys: Sort the keys of dicts.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=indent, sort_keys=sort_keys) + "\n", encoding="utf-8")
