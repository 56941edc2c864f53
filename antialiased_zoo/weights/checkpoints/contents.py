"""The contents of a weights file: tensors, and the description of their network, if any."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import CheckpointError, NonFiniteError, TensorMismatchError
from ..config import NetworkConfig
from .names import COUNTER, match
from .pickles import read_pickle
from .safetensors_files import dtype_name, is_safetensors, read_safetensors

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ...layers import FilterSize

_CHUNK = 1 << 18


@dataclass(frozen=True)
class Contents:
    """The contents of a weights file.

    Attributes:
        path: The file.
        tensors: The tensors by the file's own names, memory-mapped if possible.
        config: The network that they were saved from; None if the file does not state it.
    """

    path: Path
    tensors: Mapping[str, torch.Tensor]
    config: NetworkConfig | None

    @property
    def stated_config(self) -> NetworkConfig:
        """The network that the tensors were saved from.

        Raises:
            CheckpointError: If the file does not state it.
        """
        if self.config is None:
            raise CheckpointError(
                f"{self.path} does not state its network: create_model(NAME, pretrained={str(self.path)!r}) loads it "
                "into the network that you name"
            )
        return self.config

    @property
    def blur_size(self) -> FilterSize | None:
        """Filter size of a published checkpoint, which holds its blur kernels; None for other files."""
        kernels = (tensor for name, tensor in self.tensors.items() if name.rpartition(".")[2] == "filt")
        return next((kernel.shape[-1] for kernel in kernels), None)

    def sizes(self, model: nn.Module, head: str, first_conv: str) -> tuple[int, int]:
        """Number of classes and image channels of the tensors; 0 classes if they include no head.

        Args:
            model: A network with torchvision's names and any number of classes and channels.
            head: Qualified name of its last linear layer.
            first_conv: Qualified name of the convolution that reads the image.

        Raises:
            CheckpointError: If the tensors do not fit; the message names the file and the tensor.
        """
        found = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        ends = (f"{head}.", f"{first_conv}.")
        if not any(name.endswith(f"{head}.weight") for name in found) and self._is_headless(found, wanted, head):
            wanted = {name: shape for name, shape in wanted.items() if not name.startswith(ends[0])}
        try:
            pairs = match(found, wanted, ends)
        except CheckpointError as error:
            raise type(error)(f"{self.path}: {error}") from None
        weight = pairs.get(f"{head}.weight")
        return found[weight][0] if weight else 0, found[pairs[f"{first_conv}.weight"]][1]

    def _is_headless(self, found: Mapping[str, Any], wanted: Mapping[str, Any], head: str) -> bool:
        lacking = sum(name.startswith(f"{head}.") for name in wanted)
        counted = [name for name in wanted if not name.endswith(COUNTER)]
        there = [name for name in found if not name.endswith((COUNTER, "n_averaged", ".filt"))]
        return len(there) == len(counted) - lacking

    def fitted(self, wanted: Mapping[str, torch.Tensor], *, known_finite: bool = False) -> dict[str, torch.Tensor]:
        """The tensors under the names and in the dtypes of ``wanted``.

        Args:
            wanted: A model's state dict, on any device: names, shapes and dtypes.
            known_finite: True if the tensors were checked for NaN before.

        Raises:
            CheckpointError: If they do not fit, or are not finite; the message names the file and the
                tensor.
        """
        try:
            state = {name: _as(tensor, wanted[name], name) for name, tensor in renamed(self.tensors, wanted).items()}
            if not known_finite:
                check_finite(state)
        except CheckpointError as error:
            raise type(error)(f"{self.path}: {error}") from None
        return state

    def load_into(self, model: nn.Module, *, known_finite: bool = False) -> None:
        """Replace a model's tensors by these.

        Raises:
            CheckpointError: If they do not fit, or are not finite. The model is then unchanged.
        """
        state = self.fitted(model.state_dict(), known_finite=known_finite)
        model.load_state_dict(state, strict=False, assign=True)


def renamed(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a file's tensors under a model's names; batch norm's counters, which old files lack, are zero."""
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    pairs = match(shapes, {name: tuple(tensor.shape) for name, tensor in wanted.items()})
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


def read_contents(path: str | os.PathLike[str]) -> Contents:
    """Read a safetensors file or a torch pickle.

    Raises:
        CheckpointError: If the file is corrupt; the message names it.
    """
    path = Path(path)
    if is_safetensors(path):
        tensors, metadata = read_safetensors(path)
        return Contents(path, tensors, _config(path, metadata))
    tensors, modules = read_pickle(path)
    stated = [facts for facts in modules.values() if isinstance(facts, dict) and NetworkConfig.KEY in facts]
    return Contents(path, tensors, _config(path, stated[0] if len(stated) == 1 else {}))


def _config(path: Path, metadata: Mapping[str, Any]) -> NetworkConfig | None:
    text = metadata.get(NetworkConfig.KEY)
    try:
        return NetworkConfig.from_json(text) if isinstance(text, str) else None
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}") from None
