"""A fingerprint of a network's blurs and strides, to tell whether they have changed."""

from __future__ import annotations

from torch import nn

from .. import layers


def fingerprint_of(model: nn.Module) -> str:
    """Every blur and stride by name: what other tools, or a second `antialias_`, would change."""
    return "\n".join(
        f"{name} {module.stride if isinstance(module, nn.Conv2d) else module!r}"
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) or type(module).__module__.startswith(layers.__name__)
    )
