"""How a network of the zoo is built: registry -> torchvision's builder -> weights -> the transform."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, cast, overload

import torch
from typing_extensions import Unpack

from ..layers import FilterSize, read_filter_size
from ..transform import Shortcut, StemPool
from ..weights import TIMM, find_weights, manifest, repository
from .backbone import Backbone
from .building import build_network, network_config
from .features import FeatureMaps
from .heads import check_count
from .options import DEFAULT_FILTER_SIZE, BuilderOptions, Pretrained
from .registry import ARCHITECTURES, Architecture, find_architecture
from .timm_networks import create_timm_model


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Names of the zoo's networks.

    Args:
        pattern: Only names that match, with ``*`` and ``?`` as in a shell.
        pretrained: Only those with weights in the manifest.

    Example:
        >>> list_models("vgg1?")
        ['vgg11', 'vgg13', 'vgg16', 'vgg19']
    """
    known = {entry.model for entry in manifest.load()} if pretrained else set(ARCHITECTURES)
    return [name for name in ARCHITECTURES if name in known and fnmatchcase(name, pattern)]


@overload
def create_model(
    name: str,
    filter_size: FilterSize | None = ...,
    pretrained: Pretrained = ...,
    num_classes: int | None = ...,
    in_chans: int | None = ...,
    progress: bool = ...,
    *,
    features_only: Literal[False] = ...,
    **kwargs: Unpack[BuilderOptions],
) -> Backbone: ...
@overload
def create_model(
    name: str,
    filter_size: FilterSize | None = ...,
    pretrained: Pretrained = ...,
    num_classes: int | None = ...,
    in_chans: int | None = ...,
    progress: bool = ...,
    *,
    features_only: Literal[True],
    out_indices: Sequence[int] | None = ...,
    out_map: Sequence[str] | None = ...,
    **kwargs: Unpack[BuilderOptions],
) -> FeatureMaps: ...
def create_model(
    name: str,
    filter_size: FilterSize | None = DEFAULT_FILTER_SIZE,
    pretrained: Pretrained = False,
    num_classes: int | None = None,
    in_chans: int | None = None,
    progress: bool = True,
    *,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    out_map: Sequence[str] | None = None,
    pool_only: bool | None = None,
    memory_format: torch.memory_format | None = None,
    pad_type: str | None = None,
    wide: bool | None = None,
    stem_stride: int | None = None,
    shortcut: Shortcut | None = None,
    stem_pool: StemPool | None = None,
    **kwargs: Any,
) -> Backbone | FeatureMaps:
    """Build a network of the zoo: torchvision's, antialiased by `antialias_` as published, with or without weights.

    Args:
        name: One of `list_models()`, ``"hf-hub:owner/name"`` (see `from_pretrained`), or
            ``"timm:NAME"`` for a network that timm builds, with timm's own class and methods; those
            with weights in the manifest are antialiased.
        filter_size: Length of the blur's taps, 1 to 7, or taps of your own, as in `antialias_`;
            None gives torchvision's network untouched. By default the weights' own, else 4.
        pretrained: False; True for the manifest's default weights of this network and filter size
            (for ``filter_size=None`` without any: torchvision's); a recipe's name such as
            "finetuned", "scratch" or "timm_bt"; "torchvision" for the baseline's ImageNet tensors;
            the path of a checkpoint or of a folder that `save_pretrained` wrote;
            ``"hf-hub:owner/name[@revision]"``; or a URL that states its digest.
        num_classes: Size of the head: by default the weights', or 1000. Another size than theirs
            gives a new head; 0 gives none: the network then returns the features before it.
        in_chans: Channels of the image: by default the weights', or 3. Pretrained first
            convolutions are folded: summed for one channel, else repeated and rescaled.
        progress: Show a bar while weights are downloaded.
        features_only: Return a list of feature maps instead of classes; see `FeatureMaps`.
        out_indices: Which levels, with ``features_only``; negative ones count from the last. All by
            default.
        out_map: Names for them: the result is then a dict, as torchvision's segmentation models
            read it.
        pool_only: The published code's name of the stem switch: True is ``stem_stride=2``, False
            ``stem_stride=1``.
        memory_format: For example ``torch.channels_last``, the faster layout for most networks.
        pad_type: Padding of the blurs; "reflect" by default.
        wide: Widen binomial taps for strides above 2, as in `antialias_`; the published weights do
            without.
        stem_stride: See `antialias_`; 2 by default.
        shortcut: See `antialias_`; the weights' by default, else "blur".
        stem_pool: See `antialias_`; the weights' by default, else the published network's.
        **kwargs: Passed on to torchvision's builder: ``norm_layer``,
            ``replace_stride_with_dilation``, ``dropout`` ...

    Returns:
        The network, in training mode, on the CPU (or torch's default device).

    Raises:
        ValueError: If the name, an option or the weights' name is unknown; the message lists what
            there is.
        TypeError: If the builder has no such keyword; the message suggests the nearest.
        antialiased_zoo.errors.FetchError: If no source gave a verified file.
        antialiased_zoo.errors.CheckpointError: If the file does not fit the network, or was saved
            from another structure.

    Warns:
        UserWarning: If weights are put into a network with other blurs than they were trained with,
            as far as known.

    Example:
        >>> model = create_model("resnet18", filter_size=3, num_classes=10)
        >>> model.fc.out_features
        10
    """
    options = {
        "stem_stride": _stem_stride(stem_stride, pool_only),
        "shortcut": shortcut,
        "stem_pool": stem_pool,
        "pad_type": pad_type,
        "wide": wide,
    }
    given = {option: value for option, value in options.items() if value is not None}
    if name.startswith(TIMM):
        if features_only:
            raise ValueError("features_only is for the zoo's own networks; timm's have forward_intermediates()")
        options = {**given, **kwargs, "in_chans": in_chans}
        model = create_timm_model(name, filter_size, pretrained, num_classes, progress, **options)
        return cast(Backbone, model.to(memory_format=memory_format) if memory_format else model)
    if name.startswith(repository.PREFIX):
        contents = repository.open_place(name)
        name, pretrained = contents.stated_config.model, contents.path
    architecture = find_architecture(name)
    _check_keywords(architecture, kwargs)
    check_count("num_classes", 1 if num_classes is None else num_classes, least=0)
    check_count("in_chans", 1 if in_chans is None else in_chans)
    chosen = filter_size is not DEFAULT_FILTER_SIZE
    wanted = None if filter_size is None else read_filter_size(filter_size if chosen else int(DEFAULT_FILTER_SIZE))
    weights = find_weights(name, wanted, pretrained, chosen)
    config = network_config(architecture, weights, wanted, given, kwargs)
    model = build_network(architecture, weights, config, (num_classes, in_chans), progress, kwargs)
    if memory_format is not None:
        model = model.to(memory_format=memory_format)
    if features_only:
        return FeatureMaps(model, out_indices, out_map)
    if out_indices is not None or out_map is not None:
        raise ValueError("out_indices and out_map go with features_only=True")
    return model


def _stem_stride(stem_stride: int | None, pool_only: bool | None) -> int | None:
    if pool_only is None:
        return stem_stride
    if stem_stride is not None:
        raise ValueError("pool_only is another name of stem_stride (True: 2, False: 1): give one of the two")
    return 2 if pool_only else 1


def _check_keywords(architecture: Architecture, kwargs: Mapping[str, Any]) -> None:
    known = architecture.keywords
    if known is None:
        return
    own = [name for name in inspect.signature(create_model).parameters if name not in ("name", "kwargs")]
    for name in kwargs:
        if name not in known:
            near = difflib.get_close_matches(name, [*own, *known], n=1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(sorted({*own, *known}))}"
            raise TypeError(f"{architecture.name} got an unexpected keyword {name!r}: {hint}")
