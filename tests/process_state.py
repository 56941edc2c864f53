"""What a library must leave alone: the settings of the process and of other packages' classes."""

from __future__ import annotations

import gc
import os
import warnings

import torch
import torchvision

CLASSES = (torch.nn.Module, torch.nn.Sequential, torch.nn.Conv2d, torch.nn.ReLU6, torchvision.models.DenseNet)


def process() -> dict[str, object]:
    """The settings as they are now."""
    return {
        "collecting": gc.isenabled(),
        "thresholds": gc.get_threshold(),
        "filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "environment": dict(os.environ),
        "threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        **{f"class {cls.__name__}": dict(vars(cls)) for cls in CLASSES},
    }


def changed(before: dict[str, object]) -> list[str]:
    """Names of the settings that differ from what they were."""
    return [name for name, value in process().items() if value != before[name]]
