"""`create_model` and `from_pretrained`: networks of the zoo by name, or from where they were saved."""

from __future__ import annotations

import difflib
import inspect
import os
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
        pattern: Pattern of the names to list, with ``*`` and ``?`` as in a shell.
        pretrained: List only networks with weights in the manifest.

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
    """Build a network of the zoo: torchvision's network, antialiased as published, with or without weights.

    Args:
        name: One of `list_models()`, ``"hf-hub:owner/name"`` (see `from_pretrained`), or
            ``"timm:NAME"`` for a network that timm builds, with timm's own class and methods; those
            with weights in the manifest are antialiased.
        filter_size: Length of the blur's taps, 1 to 7, or custom taps, as in `antialias_`; None
            gives the plain network without blurs. Default: the weights' filter size, else 4.
        pretrained: False; True for the manifest's default weights of this network and filter size
            (with ``filter_size=None``, torchvision's if the manifest has none); a recipe's name
            such as "finetuned", "scratch" or "timm_bt"; "torchvision" for the baseline's ImageNet
            tensors; the path of a checkpoint or of a folder that `save_pretrained` wrote;
            ``"hf-hub:owner/name[@revision]"``; or a URL that states its digest.
        num_classes: Size of the head. Default: the weights', else 1000. A size other than the
            weights' gives a new head; with 0 the network has no head and returns the features.
        in_chans: Number of image channels. Default: the weights', else 3. The first convolution of
            pretrained networks is adapted: its weight is summed for one channel, else repeated and
            rescaled.
        progress: Show a progress bar during downloads.
        features_only: Return a list of feature maps instead of classes; see `FeatureMaps`.
        out_indices: The levels that ``features_only`` returns; negative ones count from the last.
            Default: all.
        out_map: Names of these levels; the result is then a dict, which torchvision's segmentation
            models expect.
        pool_only: The published code's name for the stem option: True is ``stem_stride=2``, False
            ``stem_stride=1``.
        memory_format: For example ``torch.channels_last``, the faster layout for most networks.
        pad_type: Padding of the blurs. Default: "reflect".
        wide: Widen binomial taps for strides above 2, as in `antialias_`; the published weights do
            not use it.
        stem_stride: See `antialias_`. Default: 2.
        shortcut: See `antialias_`. Default: the weights', else "blur".
        stem_pool: See `antialias_`. Default: the weights', else the published network's.
        **kwargs: Passed to torchvision's builder: ``norm_layer``, ``replace_stride_with_dilation``,
            ``dropout`` ...

    Returns:
        The network, in training mode, on the CPU (or torch's default device).

    Raises:
        ValueError: If the name, an option or the weights' name is unknown; the message lists the
            known ones.
        TypeError: If the builder has no such keyword; the message suggests the nearest.
        antialiased_zoo.errors.FetchError: If no source gave a verified file.
        antialiased_zoo.errors.CheckpointError: If the file does not fit the network, or was saved
            from a different structure.

    Warns:
        UserWarning: If the network's blurs are known to differ from those that the weights were
            trained with.

    Example:
        >>> model = create_model("resnet18", filter_size=3, num_classes=10)
        >>> model.fc.out_features
        10
    """
    if not features_only and (out_indices is not None or out_map is not None):
        raise ValueError("out_indices and out_map need features_only=True")
    num_classes = None if num_classes is None else check_count("num_classes", num_classes, least=0)
    in_chans = None if in_chans is None else check_count("in_chans", in_chans)
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
            raise ValueError("features_only works with the zoo's own networks; timm's have forward_intermediates()")
        options = {**given, **kwargs, "in_chans": in_chans}
        model = create_timm_model(name, filter_size, pretrained, num_classes, progress, **options)
        return cast(Backbone, model.to(memory_format=memory_format) if memory_format else model)
    if name.startswith(repository.PREFIX):
        contents = repository.open_place(name)
        name, pretrained = contents.stated_config.model, contents.path
    architecture = find_architecture(name)
    _check_keywords(architecture, kwargs)
    chosen = filter_size is not DEFAULT_FILTER_SIZE
    wanted = None if filter_size is None else read_filter_size(filter_size if chosen else int(DEFAULT_FILTER_SIZE))
    weights = find_weights(name, wanted, pretrained, chosen)
    config = network_config(architecture, weights, wanted, given, kwargs)
    model = build_network(architecture, weights, config, (num_classes, in_chans), progress, kwargs)
    if memory_format is not None:
        model = model.to(memory_format=memory_format)
    if features_only:
        return FeatureMaps(model, out_indices, out_map)
    return model


def from_pretrained(
    place: str | os.PathLike[str],
    num_classes: int | None = None,
    in_chans: int | None = None,
    progress: bool = True,
    **options: Unpack[BuilderOptions],
) -> Backbone:
    """Build a network that was saved with its structure.

    Args:
        place: A folder or file that `save_pretrained` wrote, or ``"hf-hub:owner/name[@revision]"``.
        num_classes: See `create_model`. Default: the file's.
        in_chans: See `create_model`. Default: the file's.
        progress: See `create_model`.
        **options: See `create_model`; they must not contradict the file.

    Returns:
        The network, in evaluation mode.

    Raises:
        antialiased_zoo.errors.CheckpointError: If the file does not state its network, is corrupt,
            or contradicts the options.
        antialiased_zoo.errors.FetchError: If the hub does not provide it.

    Example:
        >>> import tempfile, antialiased_zoo as az
        >>> folder = az.save_pretrained(az.resnet18(filter_size=3), tempfile.mkdtemp())
        >>> from_pretrained(folder).config.filter_size
        3
    """
    contents = repository.open_place(os.fspath(place))
    config = contents.stated_config
    model = create_model(config.model, config.filter_size, contents.path, num_classes, in_chans, progress, **options)
    return model.eval()


def _stem_stride(stem_stride: int | None, pool_only: bool | None) -> int | None:
    if pool_only is None:
        return stem_stride
    if stem_stride is not None:
        raise ValueError("pool_only is another name for stem_stride (True: 2, False: 1): give only one of them")
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
