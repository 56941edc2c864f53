"""The surroundings of an op that a graph does not record: contexts and switches that are active when it runs."""

from __future__ import annotations

import torch

from ..layers import is_saving_through_hooks

_DEVICES = ("cpu", "cuda", "mps", "xpu")


def surroundings() -> dict[str, object]:
    """The current state of each context and switch."""
    autocast = [device for device in _DEVICES if torch.amp.is_autocast_available(device)]
    cudnn = torch.backends.cudnn
    return {
        "torch.no_grad() or torch.enable_grad()": torch.is_grad_enabled(),
        "torch.inference_mode()": torch.is_inference_mode_enabled(),
        "torch.autocast()": [(torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in autocast],
        "checkpoint() or other hooks on saved tensors": is_saving_through_hooks(),
        "torch.use_deterministic_algorithms()": torch.are_deterministic_algorithms_enabled(),
        "torch.backends.cudnn.flags()": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
    }
