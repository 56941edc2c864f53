"""Adds a network to the zoo: a row of the table, and the factory that goes with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from ..layers import FilterSize
from .backbone import Backbone
from .factories import create_model
from .options import DEFAULT_FILTER_SIZE, Factory, Pretrained
from .registry import Architecture, Layout, add_architecture


def register_network(
    name: str,
    *,
    head: str,
    structure: Mapping[str, Any] | None = None,
    builder: Callable[..., nn.Module] | None = None,
    options: type | None = None,
    body: Sequence[str] = (),
    stages: Sequence[str] = (),
    body_activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Factory[...]:
    """Add a network to the zoo and return its factory.

    Args:
        name: The network's name; torchvision's builder of that name is used unless ``builder`` is
            given.
        head: Qualified name of the linear layer that gives the classes.
        structure: Options of `antialias_` that make the antialiased network.
        builder: A function ``(num_classes=..., **kwargs)`` that builds the plain network.
        options: A TypedDict whose keys include the builder's keywords; by default its signature is
            read.
        body: Names of the children that turn the image into the last feature map, in order: what
            comes after them must be a pool (``avgpool``, or an average), a flattening and the head,
            as in torchvision. Without them the network keeps its own methods only.
        stages: Qualified names of the modules after which each resolution is complete:
            ``features_only`` gives these.
        body_activation: What the network applies to the last map before it pools, where no module
            does that.

    Returns:
        A function that builds the network: `create_model` with the name filled in.

    Raises:
        ValueError: If the name is taken or is not an identifier.

    Example:
        >>> register_network("resnet18", head="fc")
        Traceback (most recent call last):
        ValueError: there is a network 'resnet18' already: choose another name
    """
    layout = Layout(head, tuple(body), tuple(stages), body_activation)
    add_architecture(Architecture(name, layout, structure or {}, builder, options))
    return _factory(name)


def _factory(name: str) -> Factory[...]:
    def build(
        filter_size: FilterSize | None = DEFAULT_FILTER_SIZE,
        pretrained: Pretrained = False,
        num_classes: int | None = None,
        in_chans: int | None = None,
        progress: bool = True,
        **kwargs: Any,
    ) -> Backbone:
        model = create_model(name, filter_size, pretrained, num_classes, in_chans, progress, **kwargs)
        return cast(Backbone, model)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"""Antialiased {name}: `create_model` with ``name="{name}"``; its arguments are the same.

    Args:
        filter_size: Length of the blur's taps, 1 to 7 (2, 3, 4, 5: Rect-2, Tri-3, Tri-4, Bin-5), or taps of your own;
            None for no blur. By default the weights', or 4.
        pretrained: False, True, a recipe's name, "torchvision", a checkpoint's path, or a repository's name.
        num_classes: Size of the head; by default the weights', or 1000; 0 for none.
        in_chans: Channels of the image; by default the weights', or 3.
        progress: Show a bar while weights are downloaded.
        **kwargs: `create_model`'s other options, and torchvision's keywords for this network.

    Returns:
        The network, ``(N, in_chans, H, W)`` to ``(N, num_classes)``.

    Example:
        >>> model = {name}(filter_size=4)
    """
    return build
