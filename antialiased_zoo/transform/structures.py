"""The options of the published networks, and the record of a model's options in its state dict.

Blurs have no parameters, so the same tensors fit networks of different structure: only a record
tells them apart.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from torch import nn

from ..layers import FilterSize, read_filter_size, taps_of
from .ops import KINDS
from .options import Placing

#: Key of the record in a state dict's metadata; the zoo's networks use the same key for theirs.
RECORD = "antialiased_zoo"
_ATTRIBUTE = "_antialiased_as"
# Options that exclude parts of a network, with their defaults.
_PARTIAL = {"kinds": KINDS, "min_channels": 0, "where": None}
# The zoo's networks, most of them as published by the paper's authors: patterns of names, and the
# options that differ from the defaults.
_PUBLISHED: dict[str, Mapping[str, Any]] = {
    r"(wide_)?resne(x)?t\d.*": {"stem_pool": "max2"},
    r"densenet\d+": {"avg_pool": "blur"},
    r"alexnet|vgg\d+(_bn)?|mobilenet_v2": {},
    r"efficientnet_lite\d": {"downsampler": "alternating"},  # no published network to match: this adapts best
}
_registered: dict[str, Mapping[str, Any]] = {}


def register_structure(name: str, options: Mapping[str, Any]) -> None:
    """Register a network's options for ``antialias(model, like=name)``.

    Args:
        name: The network's name.
        options: The options of `antialias_` that differ from its defaults.

    Example:
        >>> register_structure("my_resnet", {"shortcut": "stride"})
    """
    _registered[name] = dict(options)


def published_structure(name: str) -> Mapping[str, Any]:
    """The options that give a network the structure of a published one.

    Raises:
        ValueError: If no network of that name is known.
    """
    if name in _registered:
        return _registered[name]
    found = next((options for pattern, options in _PUBLISHED.items() if re.fullmatch(pattern, str(name))), None)
    if found is None:
        near = difflib.get_close_matches(str(name), ["resnet50", "densenet121", "vgg16", "alexnet", "mobilenet_v2"], 2)
        raise ValueError(
            f"no structure is known by the name {name!r}{f', did you mean {near[0]!r}?' if near else ''}: like= takes "
            "the name of a published network, such as 'resnet50', or a name given to register_structure()"
        )
    return found


def note_structure(model: nn.Module, filter_size: FilterSize, options: Mapping[str, Any]) -> None:
    """Record in a model's state dict how it was antialiased, and compare the record when one is loaded."""
    whole = all(options.get(name, default) == default for name, default in _PARTIAL.items())
    structure = _structure(options)
    record = {"model": type(model).__name__, "filter_size": read_filter_size(filter_size), "structure": structure}
    if vars(model).get(_ATTRIBUTE, record) != record or not whole:
        record = {}  # the parts were treated differently, which a record cannot express
    if _ATTRIBUTE not in vars(model):
        model.register_state_dict_post_hook(_write)  # type: ignore[no-untyped-call]
        model.register_load_state_dict_pre_hook(_compare)  # type: ignore[no-untyped-call]
    setattr(model, _ATTRIBUTE, record)


def _structure(options: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {
        **{f.name: f.default for f in fields(Placing)},
        "pad_type": "reflect",
        "wide": False,
        "downsampler": "blur",
    }
    return {k: options.get(k, default) for k, default in defaults.items() if k not in (*_PARTIAL, "upsample")}


def forget_structure(model: nn.Module) -> None:
    """Remove the record, for networks that write their own."""
    for hooks, hook in ((model._state_dict_hooks, _write), (model._load_state_dict_pre_hooks, _compare)):
        for key in [key for key, value in hooks.items() if _hook_of(value) is hook]:
            del hooks[key]
    vars(model).pop(_ATTRIBUTE, None)


def _hook_of(value: Any) -> Callable[..., Any]:
    return getattr(value, "hook", value)  # type: ignore[no-any-return]


def _write(module: nn.Module, state: Any, prefix: str, metadata: dict[str, Any]) -> None:
    if record := vars(module).get(_ATTRIBUTE):
        metadata[RECORD] = json.dumps(record, default=lambda value: value.item())  # NumPy's numbers


def _compare(module: nn.Module, state: Any, prefix: str, metadata: dict[str, Any], *rest: Any) -> None:
    record, stated = vars(module).get(_ATTRIBUTE), metadata.get(RECORD)
    errors: list[str] = rest[-1]
    if record and isinstance(stated, str) and (difference := _difference(json.loads(stated), record)):
        errors.append(
            f"the tensors were saved from a {difference}. antialias_(model, filter_size, like=...) gives a published "
            "network's structure; load_state_dict(dict(state)) loads the tensors without this check"
        )


def _difference(stated: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """What differs between the network that tensors were saved from and this one; "" if nothing does."""
    if stated["filter_size"] is None:  # a network without blurs
        return ""
    theirs, ours = ({**_structure({}), **of["structure"]} for of in (stated, record))
    differ = [f"{k}={theirs[k]!r}, here {v!r}" for k, v in ours.items() if theirs[k] != v]
    if _taps(stated["filter_size"]) != _taps(record["filter_size"]):
        differ.insert(0, f"filter_size={stated['filter_size']}, here {record['filter_size']}")
    return f"{stated['model']} with {' and '.join(differ)}" if differ else ""


def _taps(filter_size: FilterSize) -> tuple[float, ...]:
    return tuple(round(tap, 6) for tap in taps_of(filter_size))
