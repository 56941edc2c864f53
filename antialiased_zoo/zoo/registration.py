"""Registration of a network: its row in the table, and its factory."""

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
        head: Qualified name of the linear layer that outputs the classes.
        structure: Options of `antialias_` that make the antialiased network.
        builder: A function ``(num_classes=..., **kwargs)`` that builds the plain network.
        options: A TypedDict whose keys include the builder's keywords. Default: the keywords of the
            builder's signature.
        body: Names of the children that turn the image into the last feature map, in order. They
            must be followed by a pool (``avgpool``, or an average), flattening and the head, as in
            torchvision. Without a body the network keeps only its own methods.
        stages: Qualified names of the last modules of each resolution; ``features_only`` returns
            their outputs.
        body_activation: A function that the network applies to the last map before pooling, if no
            module does so.

    Returns:
        A function that builds the network: `create_model` with the name filled in.

    Raises:
        ValueError: If the name is taken or is not an identifier.

    Example:
        >>> register_network("resnet18", head="fc")
        Traceback (most recent call last):
        ValueError: the zoo already has a network 'resnet18': choose another name
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
        filter_size: Length of the blur's taps, 1 to 7 (2, 3, 4, 5: Rect-2, Tri-3, Tri-4, Bin-5), or custom taps; None
            for no blur. Default: the weights', else 4.
        pretrained: False, True, a recipe's name, "torchvision", a checkpoint's path, or a repository's name.
        num_classes: Size of the head; 0 for none. Default: the weights', else 1000.
        in_chans: Number of image channels. Default: the weights', else 3.
        progress: Show a progress bar during downloads.
        **kwargs: `create_model`'s other options, and torchvision's keywords for this network.

    Returns:
        The network, from ``(N, in_chans, H, W)`` to ``(N, num_classes)``.

    Example:
        >>> model = {name}(filter_size=4)
    """
    return build
