"""The table of networks: name -> builder and the facts in which families differ."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Architecture:
    """One network of the zoo.

    Attributes:
        name: Name of the factory, and of torchvision's builder unless ``builder`` is given.
        head: Qualified name of the linear layer that gives the classes.
        structure: The options of `antialias_` that make the published network.
        builder: A function ``(num_classes=..., **kwargs)`` that builds the plain network; None for torchvision's.
    """

    name: str
    head: str
    structure: Mapping[str, Any] = field(default_factory=dict, hash=False)
    builder: Callable[..., nn.Module] | None = None

    def build(self, num_classes: int, **kwargs: Any) -> nn.Module:
        """Build the plain network, without weights."""
        if self.builder is not None:
            return self.builder(num_classes=num_classes, **kwargs)
        from torchvision.models import get_model

        model: nn.Module = get_model(self.name, weights=None, num_classes=num_classes, **kwargs)
        return model


_TABLE: dict[str, Architecture] = {}
#: Every registered network by name, in the order of registration.
ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(_TABLE)


def add_architecture(architecture: Architecture) -> None:
    """Add a row to the table.

    Raises:
        ValueError: If the name is taken or is no identifier.
    """
    if architecture.name in _TABLE:
        raise ValueError(f"there is a network {architecture.name!r} already: choose another name")
    if not architecture.name.isidentifier():
        raise ValueError(f"a network's name must be a Python identifier, got {architecture.name!r}")
    _TABLE[architecture.name] = architecture


def find_architecture(name: str) -> Architecture:
    """The table's row of a network.

    Raises:
        ValueError: If there is no such network; the message suggests the nearest names.
    """
    if name not in _TABLE:
        near = difflib.get_close_matches(str(name).lower().replace("-", "_"), _TABLE, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(_TABLE)}"
        raise ValueError(f"there is no network {name!r} in the zoo: {hint} (antialias() takes any model)")
    return _TABLE[name]
