"""timm's own antialiased networks, which torchvision has no builder for.

timm builds the network and adapts its head and first convolution to the tensors. This package
fetches the file, verifies its digest, and reads it without running code from it.
"""

from __future__ import annotations

import difflib
import importlib
import os
from typing import Any, cast

from torch import nn

from ..errors import TensorMismatchError
from ..layers import FilterSize
from ..weights import TIMM, check_pretrained, checkpoints, hub, manifest, repository
from .options import DEFAULT_FILTER_SIZE


def create_timm_model(
    name: str,
    filter_size: FilterSize | None,
    pretrained: bool | str | os.PathLike[str],
    num_classes: int | None,
    progress: bool,
    **options: Any,
) -> nn.Module:
    """Build a network with timm's builder.

    Args:
        name: ``"timm:NAME"``.
        filter_size: Must be None or the default: the network is built as timm defines it.
        pretrained: False, True, a recipe of the manifest, or a file, folder or repository as in
            `create_model`.
        num_classes: Size of the head, 0 for none. A size other than the weights' gives a new head; a
            user's own file must have a head of this size, unless it is 0.
        progress: Show a progress bar during downloads.
        **options: Options of timm's builder; those that are None are omitted.

    Raises:
        ValueError: If timm has no such network, or the manifest no such weights.
        TypeError: If ``pretrained`` is not a bool, a string or a path.
        ImportError: If timm is not installed.
        antialiased_zoo.errors.FetchError: If no source gave a verified file.
        antialiased_zoo.errors.CheckpointError: If the file is corrupt, or does not fit.
    """
    check_pretrained(pretrained)
    try:
        timm: Any = importlib.import_module("timm")
    except ImportError as error:
        raise ImportError("'timm:' networks need timm: pip install timm") from error
    architecture = name.removeprefix(TIMM)
    if architecture not in timm.list_models():
        near = difflib.get_close_matches(architecture, timm.list_models(), 3)
        raise ValueError(
            f"timm {timm.__version__} has no network {architecture!r}; similar: {', '.join(near) or 'none'}"
        )
    if filter_size is not None and filter_size is not DEFAULT_FILTER_SIZE:
        raise ValueError(f"{name} is built as timm defines it: omit filter_size; az.antialias(model, k) adds blurs")
    given = {option: value for option, value in options.items() if value is not None}
    wanted = 1000 if num_classes is None else num_classes
    if pretrained is False:
        return cast(nn.Module, timm.create_model(architecture, num_classes=wanted, **given))
    contents, size, tag = _weights(name, pretrained, wanted, progress)
    if size == 0:  # a user's own file, whose head is loaded, if it has one, and then removed
        size = _head_size(contents, timm.get_pretrained_cfg_value(architecture, "classifier"))
    checkpoints.check_finite(contents.tensors)
    if f"{architecture}.{tag}" in timm.list_pretrained(f"{architecture}.*"):
        architecture = f"{architecture}.{tag}"  # so that timm sets the preprocessing
    overlay = {"state_dict": dict(contents.tensors), "num_classes": size}
    try:
        model = timm.create_model(architecture, True, pretrained_cfg_overlay=overlay, num_classes=size, **given)
    except RuntimeError as error:  # from `load_state_dict`
        raise TensorMismatchError(
            f"{contents.path} does not fit {name}: {' '.join(str(error).split())[:300]}"
        ) from None
    model.pretrained_cfg.pop("state_dict")  # timm would keep a second reference to the tensors
    if num_classes not in (None, size):
        model.reset_classifier(num_classes)
    return cast(nn.Module, model)


def _weights(
    name: str, pretrained: bool | str | os.PathLike[str], size: int, progress: bool
) -> tuple[checkpoints.Contents, int, str]:
    """The contents of the file that ``pretrained`` names, the size of its head, and timm's name for the weights."""
    if not isinstance(pretrained, bool) and not (isinstance(pretrained, str) and pretrained.isidentifier()):
        return repository.open_place(os.fspath(pretrained)), size, ""
    entry = manifest.load().find(name, None, pretrained if isinstance(pretrained, str) else None)
    return checkpoints.read_contents(hub.fetch(entry, progress=progress)), entry.num_classes, entry.recipe


def _head_size(contents: checkpoints.Contents, head: object) -> int:
    weight = contents.tensors.get(f"{head}.weight")
    return 0 if weight is None else weight.shape[0]
