"""The module inside a compiled one."""

from __future__ import annotations

from torch import nn

from ..layers import COMPILED, is_compiled_wrapper


def uncompiled(model: nn.Module) -> nn.Module:
    """The module that `torch.compile` was given; its wrapper can be neither traced nor exported."""
    return model.get_submodule(COMPILED) if is_compiled_wrapper(model) else model
