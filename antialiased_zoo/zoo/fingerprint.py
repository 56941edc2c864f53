"""Whether a network was changed: the fingerprint of its blurs and strides, and the names of its tensors."""

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


def tensor_names(model: nn.Module, head: str) -> set[str]:
    """Names of the tensors that a file of the network holds, except those of its head, which may be replaced."""
    return {name for name in model.state_dict() if name.rpartition(".")[0] != head}
