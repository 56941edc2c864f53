"""Two processes at a time, forked from one that has imported what they need: the imports take seconds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

import torch.multiprocessing

multiprocessing.set_forkserver_preload(
    ["torch", "torchvision", "antialiased_zoo.adaptation", "antialiased_zoo.training"]
)


def run_two(function: Callable[..., None], *arguments: object) -> None:
    """Call ``function(rank, *arguments)`` in a process for each rank; an error in either is raised here."""
    torch.multiprocessing.start_processes(function, arguments, nprocs=2, start_method="forkserver")
