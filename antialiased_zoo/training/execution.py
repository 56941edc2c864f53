"""How a run is computed: device, precision, memory format, compilation, processes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..evaluation import find_device


@dataclass(frozen=True)
class Execution:
    """How a run is computed; beyond rounding, the settings change only what batch norm sees.

    Attributes:
        device: The device.
        amp: ``None`` for float32, or the dtype of autocast; float16 uses loss scaling.
        channels_last: True for channels-last memory format of the network and its input.
        compile: Use ``torch.compile``, once per image size.
        accumulate: Number of parts in which a process computes its share of a batch.
        rank: Rank of this process.
        world: Number of processes.
        checkpoint_every: Optimizer steps between checkpoints.
        progress: Show progress bars (in the first process, on a terminal).
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    amp: torch.dtype | None = None
    channels_last: bool = True
    compile: bool = False
    accumulate: int = 1
    rank: int = 0
    world: int = 1
    checkpoint_every: int = 200
    progress: bool = True

    def __post_init__(self) -> None:
        """Rejects counts below one."""
        for name in ("accumulate", "world", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def first(self) -> bool:
        """True in the first process, which writes files and prints."""
        return self.rank == 0

    @property
    def hide_bars(self) -> bool | None:
        """The value of tqdm's ``disable``: ``None`` shows a bar only on a terminal."""
        return None if self.progress and self.first else True

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory format of the network and of images."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> AbstractContextManager[Any]:
        """Returns the autocast context; it does nothing in float32."""
        return torch.autocast(self.device.type, self.amp) if self.amp else nullcontext()

    def total(self, sums: Tensor) -> Tensor:
        """Returns a new tensor, on the same device: the sum over all processes; every process must call it."""
        if self.world == 1:
            return sums.clone()
        total = sums.to(self.device, copy=True)  # some backends send only from there
        dist.all_reduce(total)
        return total.to(sums.device)

    def give_firsts(self, tensors: Iterable[Tensor]) -> None:
        """Replaces tensors by those of the first process, in place; every process must call it."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)


def launcher() -> list[str]:
    """Returns the words that start as many processes as there are, such as ``torchrun --nproc-per-node 8``.

    Returns:
        The words before the program's name; none for a single process.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return []
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    nodes = ["--nnodes", str(world // local)] if world > local else []
    return ["torchrun", *nodes, "--nproc-per-node", str(local)]


def _own_gpu(device: str) -> str:
    """The name of this process's own GPU, made the current one, if the name is one of a GPU.

    Nothing may be allocated before: it would be on the first GPU, for every process.
    """
    if device == "auto" and torch.cuda.is_available():
        device = "cuda"
    if device.partition(":")[0] != "cuda":
        return device
    number = int(os.environ["LOCAL_RANK"])
    if number < torch.cuda.device_count():
        torch.cuda.set_device(number)
    return f"cuda:{number}"


@contextmanager
def processes(device: str) -> Iterator[tuple[torch.device, int, int]]:
    """A context in torchrun's process group.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` ...; under torchrun each process uses its own ``cuda``
            device.

    Yields:
        This process's device, its rank and the number of processes: ``(device, 0, 1)`` without
        torchrun.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield find_device(device), 0, 1
        return
    place = find_device(_own_gpu(device))
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield place, dist.get_rank(), world
    finally:
        dist.destroy_process_group()
