"""Applies a plan: gives strides over to blurs, in place of modules or beside them."""

from __future__ import annotations

import copy
import warnings
from itertools import chain
from typing import Any, TypedDict, TypeVar, cast

from torch import Tensor, nn
from typing_extensions import Unpack

from .layers import Downsample, MaxBlurPool2d
from .plan import Shortcut, Site, StemPool, plan

_Model = TypeVar("_Model", bound=nn.Module)


class Options(TypedDict, total=False):
    """The keyword arguments of `antialias_` after ``filter_size``."""

    pad_type: str
    stem_stride: int
    shortcut: Shortcut
    stem_pool: StemPool


def antialias(model: _Model, filter_size: int = 4, **options: Unpack[Options]) -> _Model:
    """Return a copy of a model whose downsampling low-pass filters first; the model itself is left alone.

    Args:
        model: See `antialias_`.
        filter_size: See `antialias_`.
        **options: The other arguments of `antialias_`.

    Returns:
        An antialiased deep copy.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        >>> type(antialias(model)[2]).__name__, type(model[2]).__name__
        ('MaxBlurPool2d', 'MaxPool2d')
    """
    return antialias_(copy.deepcopy(model), filter_size, **options)


def antialias_(
    model: _Model,
    filter_size: int = 4,
    *,
    pad_type: str = "reflect",
    stem_stride: int = 2,
    shortcut: Shortcut = "blur",
    stem_pool: StemPool = "max",
) -> _Model:
    """Antialias a model in place: each strided op is evaluated densely, then blurred and subsampled.

    Parameters stay the same objects under the same names, and the state dict has the same keys, so checkpoints
    load and optimizers go on. Convolutions stay where they are with a smaller stride; the blur is a child
    (``blur_before``, ``blur_after``) of the module beside it. Pools are replaced. A second call changes nothing.

    Args:
        model: A network that `torch.fx` can trace, on any device.
        filter_size: Length of the binomial taps, 1 to 7; 1 subsamples without a blur.
        pad_type: Padding of the blurs: "reflect", "replicate" or "zero".
        stem_stride: Stride that the convolution reading the image keeps: 2 in the paper, 1 antialiases it fully.
        shortcut: "blur" puts a blur before linear 1x1 strided convolutions, "stride" leaves them as they are.
        stem_pool: What becomes of a max pool that follows the stem: "max" keeps its window, densely evaluated,
            "max2" takes a 2x2 maximum without padding (the published ResNets), "blur" takes no maximum.

    Returns:
        The same model.

    Raises:
        ValueError: If an option is out of range.

    Warns:
        UserWarning: If nothing in the model could be antialiased.

    Source: Zhang, ICML 2019, section 3.2.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU())
        >>> antialias_(model, stem_stride=1)[1].blur_after
        Downsample(8, filt_size=4, stride=(2, 2), reflect)
    """
    Downsample(filt_size=filter_size, pad_type=pad_type)  # complains before anything is changed
    found = plan(model, stem_stride=stem_stride, shortcut=shortcut, stem_pool=stem_pool)
    if not found.treated:
        warnings.warn(f"nothing in {type(model).__name__} was left to antialias; see plan(model)", stacklevel=2)
    for site in found.treated:
        _apply(model, site, filter_size, pad_type)
    return model


def _apply(model: nn.Module, site: Site, filter_size: int, pad_type: str) -> None:
    placement = site.placement
    if placement is None:
        return
    module = model.get_submodule(site.name)
    blur = _like(module, model, _blur_of(module, site, filter_size, pad_type))
    if placement.where == "instead":
        _replace(model, placement.host, blur)
        return
    cast(nn.Conv2d, module).stride = site.keep
    host = model.get_submodule(placement.host)
    host.add_module(f"blur_{placement.where}", blur)
    if placement.where == "before":
        host.register_forward_pre_hook(_blur_before)
    else:
        host.register_forward_hook(_blur_after)


def _blur_of(module: nn.Module, site: Site, filter_size: int, pad_type: str) -> nn.Module:
    if site.pool in (None, "blur"):
        return Downsample(site.channels, pad_type, filter_size, site.blur_stride)
    if not isinstance(module, nn.MaxPool2d):
        raise TypeError(f"{site.name} is planned as a max pool, but is {type(module).__name__}: plan the model again")
    if site.pool == "max2":
        return MaxBlurPool2d(2, filter_size, site.blur_stride, pad_type=pad_type)
    window = (
        module.kernel_size,
        filter_size,
        site.blur_stride,
        module.padding,
        module.dilation,
        module.ceil_mode,
    )
    return MaxBlurPool2d(*window, pad_type=pad_type)


def _like(module: nn.Module, model: nn.Module, blur: nn.Module) -> nn.Module:
    """Give a blur its model's dtype and device, and the hooks and train flag of the module it stands for."""
    tensor = next(chain(module.parameters(), model.parameters(), model.buffers()), None)
    if tensor is not None and not tensor.is_meta:  # on the meta device the kernel would be lost: it is in no checkpoint
        blur = blur.to(device=tensor.device, dtype=tensor.dtype if tensor.is_floating_point() else None)
    return blur.train(module.training)


def _replace(model: nn.Module, path: str, new: nn.Module) -> None:
    old = model.get_submodule(path)
    for hooks in ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"):
        getattr(new, hooks).update(getattr(old, hooks))
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, new)


# Hooks and not wrappers, so that the host keeps its class, its name and its parameters' names, whatever it is.


def _blur_before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (cast(nn.Module, module.blur_before)(args[0]), *args[1:])


def _blur_after(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    return cast(Tensor, cast(nn.Module, module.blur_after)(output))
