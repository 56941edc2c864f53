"""How a run is computed: device, precision, memory format, compilation, processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..evaluation import find_device


@dataclass(frozen=True)
class Execution:
    """How a run is computed, which should not change what it computes beyond rounding and what batch norm sees.

    Attributes:
        device: Where the run is computed.
        amp: ``None`` for float32, or the dtype of autocast; float16 scales the loss.
        channels_last: Memory format of the network and its input.
        compile: Through ``torch.compile``, once per image size.
        accumulate: Number of parts in which a process computes its share of a batch.
        rank: This process, of ``world``.
        world: Number of processes.
        checkpoint_every: Optimizer steps between checkpoints.
        progress: Show bars (the first process only, and only on a terminal).
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
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    @property
    def hide_bars(self) -> bool | None:
        """What tqdm takes as ``disable``: ``None`` shows a bar on a terminal only."""
        return None if self.progress and self.first else True

    @property
    def memory_format(self) -> torch.memory_format:
        """Of the network's convolutions and of images."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> AbstractContextManager[Any]:
        """Returns the autocast context, one that does nothing in float32."""
        return torch.autocast(self.device.type, self.amp) if self.amp else nullcontext()

    def total(self, sums: Tensor) -> Tensor:
        """Adds up a tensor over all processes; every process must call it, and gets a new tensor on the same device."""
        if self.world == 1:
            return sums.clone()
        total = sums.to(self.device, copy=True)  # the only place that some backends send from
        dist.all_reduce(total)
        return total.to(sums.device)


def positive(text: str) -> int:
    """Reads a whole number above zero, for argparse.

    Raises:
        ValueError: If the text is not one.
    """
    number = int(text)
    if number < 1:
        raise ValueError(f"must be at least 1, got {number}")
    return number


@contextmanager
def processes(device: str) -> Iterator[tuple[torch.device, int, int]]:
    """Joins torchrun's processes for as long as the context lasts.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` ...; under torchrun each process takes its own ``cuda``
            device.

    Yields:
        This process's device, its rank and the number of processes: ``(device, 0, 1)`` without
        torchrun.
    """
    place = find_device(device)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield place, 0, 1
        return
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield place, dist.get_rank(), world
    finally:
        dist.destroy_process_group()
