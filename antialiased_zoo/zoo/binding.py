"""Gives a network a class made of `Backbone` and its own class, and adds its structure to its state dict."""

from __future__ import annotations

import copyreg
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from torch import nn

from ..transform import forget_structure
from ..weights import NetworkConfig
from .backbone import Backbone, BackboneType
from .fingerprint import fingerprint_of, tensor_names
from .registry import ARCHITECTURES, Layout

_CLASSES: dict[type[nn.Module], type[Backbone]] = {}


def backbone_class(base: type[nn.Module]) -> type[Backbone]:
    """The class that combines `Backbone` with a network's own class; created once, with the same name."""
    if base not in _CLASSES:
        facts = {"__module__": __name__, "__doc__": base.__doc__, "_base": base, "forward": _forward_of(base)}
        made = cast(type[Backbone], BackboneType(base.__name__, (Backbone, base), facts))
        _CLASSES.setdefault(base, made)  # another thread may have been first
    return _CLASSES[base]


def _forward_of(base: type[nn.Module]) -> Callable[..., Any]:
    """`Backbone.forward` to Python, but the forward of ``base`` to `torch.jit.script`, which reads the source."""
    forward = types.FunctionType(Backbone.forward.__code__, base.forward.__globals__, "forward")
    forward.__doc__ = Backbone.forward.__doc__
    forward.__wrapped__ = base.forward  # type: ignore[attr-defined]  # where inspect finds the source
    return forward


def _reduce(cls: BackboneType) -> str | tuple[Callable[..., Any], tuple[type, ...]]:
    made = cls in _CLASSES.values()  # not a subclass of one, such as FSDP's
    return (backbone_class, (cast(Any, cls)._base,)) if made else cls.__qualname__


copyreg.pickle(BackboneType, _reduce)


def bind(model: nn.Module, layout: Layout, head_hidden_size: int, config: NetworkConfig) -> Backbone:
    """Give a network `Backbone`'s methods through its class, so that a deep copy does not refer to the original."""
    model.__class__ = backbone_class(type(model))
    backbone = cast(Backbone, model)
    backbone.layout = layout
    backbone.head_hidden_size = head_hidden_size
    backbone.global_pool = config.global_pool
    backbone.grad_checkpointing = False
    backbone._drop_rate = 0.0
    backbone._config = config
    backbone._fingerprint = fingerprint_of(model)
    backbone._tensor_names = tensor_names(model, layout.head)
    forget_structure(backbone)  # the zoo's own record, written below, is more detailed
    backbone.register_state_dict_post_hook(_note_structure)  # type: ignore[no-untyped-call]
    backbone.register_load_state_dict_pre_hook(_check_structure)  # type: ignore[no-untyped-call]
    return backbone


def _note_structure(module: nn.Module, state: Any, prefix: str, metadata: dict[str, Any]) -> None:
    """Write the network's description into the state dict's metadata."""
    backbone = cast(Backbone, module)
    if backbone._fingerprint == fingerprint_of(module):
        metadata[NetworkConfig.KEY] = backbone.config.to_json()


def _check_structure(
    module: nn.Module,
    state: Any,
    prefix: str,
    metadata: dict[str, Any],
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    stated, backbone = metadata.get(NetworkConfig.KEY), cast(Backbone, module)
    if stated is None or backbone._fingerprint != fingerprint_of(module):
        return  # for a network changed since it was built, the transform compares its own record
    if difference := named_alike(NetworkConfig.from_json(stated), backbone._config).difference(backbone._config):
        errors.append(
            f"{difference}. Build the same network; load_state_dict(dict(state)) loads the tensors without this check"
        )


def named_alike(stated: NetworkConfig, own: NetworkConfig) -> NetworkConfig:
    """The record, renamed like this network if it names a user's class: then its tensors decide whether it fits."""
    return stated if stated.model in ARCHITECTURES else replace(stated, model=own.model)
