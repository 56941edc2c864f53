"""A run's settings, which its checkpoint and its records hold and a resumed run must share."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

State = dict[str, Any]


def check_settings(file: Path, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Lets a run go on from a file only if the file is of a run with the same settings.

    Args:
        file: What holds the other run's state or results.
        saved: The settings that the file states.
        now: The settings of this run.

    Raises:
        ValueError: They differ; the message names each setting that does, and both values.
    """
    saved, now = _flat(saved), _flat(now)
    keys = [key for key in {**saved, **now} if saved.get(key, "unstated") != now.get(key, "unstated")]
    if keys:
        changes = "; ".join(
            f"{key}: {saved.get(key, 'unstated')} there, {now.get(key, 'unstated')} now" for key in keys
        )
        raise ValueError(f"{file} is of another run ({changes}); repeat its command or choose another folder or file")


def _flat(settings: Mapping[str, Any]) -> State:
    """Settings with those of a recipe, of preprocessing ... as ``recipe.lr``."""
    flat: State = {}
    for key, value in settings.items():
        inner = {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, Mapping) else {}
        flat |= inner or {key: value}
    return flat


def merge_settings(own: Mapping[str, Any], more: Mapping[str, Any] | None) -> State:
    """Returns a run's own settings and those that its caller adds, as `plain` values.

    Raises:
        ValueError: Both have a setting of the same name, of which only one would be compared; or a checkpoint cannot
            hold a value.
    """
    more = {name: plain(value, f"identity's {name}") for name, value in (more or {}).items()}
    own = {name: plain(value, name) for name, value in own.items()}
    if both := sorted(own.keys() & more.keys()):
        raise ValueError(f"identity must not have the names of the run's own settings: rename {', '.join(both)}")
    return {**more, **own}


def plain(value: Any, name: str) -> Any:
    """Returns a setting as a checkpoint can hold it: numbers of NumPy and tensors become Python's, and paths text.

    Args:
        value: The setting.
        name: What an error calls it.

    Raises:
        ValueError: A checkpoint cannot hold it.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {plain(key, f"a key of {name}"): plain(one, f"{name}[{key!r}]") for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(one, name) for one in value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist") and not isinstance(value, type):
        value = value.tolist()  # NumPy's dates become dates, which are refused below
    stored = io.BytesIO()
    try:
        torch.save(value, stored)
        torch.load(io.BytesIO(stored.getvalue()), weights_only=True)  # as a run that resumes will
    except Exception as error:  # of pickle, or torch's own
        raise ValueError(
            f"{name} is a {type(value).__name__}, which no checkpoint can hold: give numbers, text, lists or dicts"
        ) from error
    return value
