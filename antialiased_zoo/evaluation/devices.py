"""The device that a command line names, checked before the work starts."""

from __future__ import annotations

import torch


def find_device(name: str) -> torch.device:
    """Returns a device, after checking that it is available.

    Args:
        name: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps`` ...

    Raises:
        ValueError: There is no such device.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    # torch reports a missing backend by any of these.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(f"device {name!r} cannot be used here: {reason}") from error
    return device
