"""Builds a network from options and weights: decides its structure, then loads its tensors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from ..errors import CheckpointError, StructureMismatchError, warn
from ..layers import FilterSize
from ..transform import Options, antialias_new
from ..weights import DEFAULTS, Entry, NetworkConfig, Weights, checkpoints, class_names, imagenet_names, jsonable
from .backbone import Backbone
from .binding import bind, named_alike
from .heads import first_conv, fit_ends, head_sizes, renew_head, set_in_channels
from .registry import Architecture

logger = logging.getLogger(__name__)


def network_config(
    architecture: Architecture,
    weights: Weights | None,
    filter_size: FilterSize | None,
    given: Mapping[str, Any],
    kwargs: Mapping[str, Any],
) -> NetworkConfig:
    """Decide a network's options: the caller's, else the weights', else the published network's.

    Raises:
        StructureMismatchError: If the caller's options contradict the structure stated in a file.
        CheckpointError: If the file's network had an option that a file cannot hold, and the caller
            does not give it.
    """
    published = {name: architecture.structure.get(name, default) for name, default in DEFAULTS.items()}
    structure = {**published, **(weights.structure if weights else {})}
    builder, not_saved = jsonable(kwargs)
    size = weights.filter_size if weights else filter_size
    config = NetworkConfig(architecture.name, size, {**structure, **given}, builder=builder, not_saved=not_saved)
    if weights is None:
        return config
    if isinstance(weights.source, checkpoints.Contents) and weights.source.config is not None:
        return _config_of_file(weights.source, config, kwargs)
    changed = {name: value for name, value in given.items() if structure[name] != value}
    if changed:
        warn(
            f"the weights belong to {replace(config, structure=structure).describe()}, the network is "
            f"{config.describe()}: expect a lower accuracy until it is fine-tuned"
        )
    return replace(config, **_facts(weights))


def _config_of_file(contents: checkpoints.Contents, config: NetworkConfig, kwargs: Mapping[str, Any]) -> NetworkConfig:
    own = named_alike(cast(NetworkConfig, contents.config), config)
    if difference := own.difference(config):
        raise StructureMismatchError(
            f"{contents.path}: {difference}. Omit the options to build the file's network; to use its tensors in "
            "another network anyway, build that one and call load_state_dict(dict(state)) with the tensors"
        )
    lacking = [name for name in own.not_saved if name not in kwargs]
    if lacking:
        raise CheckpointError(
            f"{contents.path} was saved from a network with a custom {' and '.join(lacking)}, which a file cannot "
            f"hold: pass {', '.join(f'{name}=...' for name in lacking)} again"
        )
    return replace(own, builder={**own.builder, **config.builder}, not_saved=config.not_saved)


def _facts(weights: Weights) -> dict[str, Any]:
    """The facts that a manifest entry, or torchvision's baseline, states about its weights."""
    entry = weights.source
    if isinstance(entry, checkpoints.Contents):
        return {"origin": entry.path.name}
    if not isinstance(entry, Entry):
        return {"origin": "torchvision IMAGENET1K_V1", "classes": imagenet_names(), "dataset": "ImageNet-1k"}
    return {
        "classes": class_names(entry) or None,
        "preprocessing": entry.preprocessing,
        "metrics": dict(entry.metrics),
        "license": entry.license.name,
        "origin": entry.name,
        "dataset": entry.dataset,
    }


def build_network(
    architecture: Architecture,
    weights: Weights | None,
    config: NetworkConfig,
    sizes: tuple[int | None, int | None],
    progress: bool,
    kwargs: Mapping[str, Any],
) -> Backbone:
    """Build the plain network, load its tensors, adapt its head and first convolution, and antialias it."""
    num_classes, in_chans = sizes
    kwargs = {**config.builder, **kwargs}
    head = architecture.layout.head
    if weights is None:
        model = architecture.build(num_classes or 1000, **kwargs)
    else:
        with torch.device("meta"):  # saves memory and random numbers: the file's tensors replace these
            model = architecture.build(weights.num_classes or num_classes or 1000, **kwargs)
    width, _ = head_sizes(model.get_submodule(head))
    if weights is not None:
        _load(model, weights, head, progress)
        model = model.to(torch.get_default_device())
    _, trained = head_sizes(model.get_submodule(head))
    _, conv = first_conv(model)
    config = replace(config, num_classes=trained, in_chans=conv.in_channels)
    if num_classes is not None and num_classes != trained:
        if num_classes:
            logger.info("%s gets a new, untrained head: %d classes instead of %d", head, num_classes, trained)
            config = replace(config, global_pool=config.global_pool or "avg")
        config = config.with_new_head(num_classes)
        renew_head(model, head, width, num_classes)
    if in_chans is not None and in_chans != conv.in_channels:
        logger.info("the first convolution reads %d channels instead of %d", in_chans, conv.in_channels)
        set_in_channels(model, in_chans, fold=weights is not None)
    if config.filter_size is not None:
        antialias_new(model, config.filter_size, **cast(Options, {**architecture.structure, **config.structure}))
    # Without a body in the registry, a network keeps only its own methods.
    return bind(model, architecture.layout, width, config) if architecture.layout.body else cast(Backbone, model)


def _load(model: nn.Module, weights: Weights, head: str, progress: bool) -> None:
    if not isinstance(weights.source, checkpoints.Contents):
        weights.fetch_into(model, progress)
        return
    fit_ends(model, head, *weights.source.sizes(model, head, first_conv(model)[0]))
    weights.source.load_into(model)
