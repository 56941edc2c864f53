"""The table of networks: each network's builder, layout and structure."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, get_type_hints

from torch import Tensor, nn
from torchvision.models import get_model

from ..transform import register_structure


@dataclass(frozen=True)
class Layout:
    """The parts of a network, by name; `register_network` documents them.

    Attributes:
        head: Qualified name of the linear layer that outputs the classes.
        body: Names of the children that turn the image into the last feature map, in order; empty
            if the network has another form.
        stages: Qualified names of the last modules of each resolution, in order.
        body_activation: A function applied to the last map before pooling, if no module does so.
    """

    head: str
    body: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    body_activation: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Architecture:
    """One network of the zoo.

    Attributes:
        name: Name of the factory, and of torchvision's builder unless ``builder`` is given.
        layout: The names of its parts.
        structure: The options of `antialias_` that make the published network.
        builder: A function ``(num_classes=..., **kwargs)`` that builds the plain network; None for
            torchvision's builder.
        options: A TypedDict whose keys include the builder's keywords; None for those of the
            builder's signature.
    """

    name: str
    layout: Layout
    structure: Mapping[str, Any] = field(default_factory=dict, hash=False)
    builder: Callable[..., nn.Module] | None = None
    options: type | None = None

    @property
    def keywords(self) -> tuple[str, ...] | None:
        """The builder's keywords; None if it accepts any (``**kwargs``)."""
        if self.options is not None:
            return tuple(get_type_hints(self.options))
        parameters = inspect.signature(self.builder or get_model).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return None
        return tuple(parameter.name for parameter in parameters)

    def build(self, num_classes: int, **kwargs: Any) -> nn.Module:
        """Build the plain network, without weights."""
        if self.builder is not None:
            return self.builder(num_classes=num_classes, **kwargs)
        model: nn.Module = get_model(self.name, weights=None, num_classes=num_classes, **kwargs)
        return model


_TABLE: dict[str, Architecture] = {}
#: Every registered network by name, in the order of registration.
ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(_TABLE)


def add_architecture(architecture: Architecture) -> None:
    """Add a row to the table.

    Raises:
        ValueError: If the name is taken or is not an identifier.
    """
    if architecture.name in _TABLE:
        raise ValueError(f"the zoo already has a network {architecture.name!r}: choose another name")
    if not architecture.name.isidentifier():
        raise ValueError(f"a network's name must be a Python identifier, got {architecture.name!r}")
    _TABLE[architecture.name] = architecture
    register_structure(architecture.name, architecture.structure)


def find_architecture(name: str) -> Architecture:
    """The row of a network.

    Raises:
        ValueError: If there is no such network; the message suggests similar names.
    """
    if name not in _TABLE:
        near = difflib.get_close_matches(str(name).lower().replace("-", "_"), _TABLE, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(_TABLE)}"
        raise ValueError(f"there is no network {name!r} in the zoo: {hint} (antialias() takes any model)")
    return _TABLE[name]
