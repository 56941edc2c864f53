"""Applies a plan to a model's modules: a blur replaces a pool, or is attached to a module."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from torch import nn

from ..layers import Window
from .downsamplers import Downsampler, upsampling_blur
from .hosting import attach
from .links import Link, add_link
from .op_table import row_of
from .plans import Plan, Site


def apply_site(model: nn.Module, site: Site, way: Downsampler, found: Plan) -> None:
    """Apply one site of a plan, in place."""
    if site.placement is None:
        return
    module, host, where = model.get_submodule(site.name), model.get_submodule(site.placement.host), site.placement.where
    if where == "instead":
        replace_module(model, module, like_model(module, model, _in_place_of(module, site, way)))
        return
    if site.keep != site.stride:
        cast(nn.Conv2d, module).stride = site.keep
    if site.shares:
        return
    made = _in_place_of(module, site, way) if where == "within" else blur_of(site, way)
    blur = like_model(module, model, made)
    attach(host, where, blur)
    if site.keeper is not None:
        served = [other for other in found.treated if other is site or other.shares == site.name]
        keeper = model.get_submodule(site.keeper)
        convs = [
            (path, other.stride, other.keep)
            for other in served
            if other.keep != other.stride
            for path in _names(keeper, model.get_submodule(other.name))
        ]
        norms = [path for norm in site.norms for path in _names(keeper, model.get_submodule(norm))]
        known = frozenset(name for name, _ in keeper.named_modules(remove_duplicate=False))
        add_link(keeper, Link(convs, tuple(_names(keeper, host)), where, blur, tuple(norms), known))


def _names(keeper: nn.Module, module: nn.Module) -> list[str]:
    return [name for name, found in keeper.named_modules(remove_duplicate=False) if found is module]


def _in_place_of(module: nn.Module, site: Site, way: Downsampler) -> nn.Module:
    """The module that replaces a pool or a registered op."""
    row = row_of(module)
    if row is None or row.blurred is None:
        return blur_of(site, way)

    def blur(channels: int | None = None, stride: Sequence[int] = site.stride) -> nn.Module:
        return blur_of(replace(site, channels=channels, blur_stride=tuple(stride), window=None), way)

    return row.blurred(module, blur)


def blur_of(site: Site, way: Downsampler) -> nn.Module:
    """The layer that takes over a site's stride."""
    stride, window, way = site.stride, site.window, way.at(site.level)
    if site.filter_size is not None:
        return upsampling_blur(site.filter_size, stride, site.channels, way.pad_type)
    if site.blur_stride == 1:
        return way.dense(stride, site.channels)
    stride = cast("tuple[int, ...]", site.blur_stride)
    if site.offsets:
        return way.subsample_at(site.offsets, stride)
    if window is None or site.pool == "blur":
        return way.subsample(stride, site.channels)
    if site.pool == "fit":
        return way.avg_pool(window, stride)
    return way.max_pool(Window.make(2, 0, 1, False, len(stride)) if site.pool == "max2" else window, stride)


def like_model(module: nn.Module, model: nn.Module, blur: nn.Module) -> nn.Module:
    """Give a blur its model's dtype and device, and the training mode of the module that it replaces or joins."""
    tensor = next(itertools.chain(module.parameters(), model.parameters(), model.buffers()), None)
    if tensor is not None and not tensor.is_meta:  # on meta the kernel would be lost: no checkpoint holds it
        blur = blur.to(device=tensor.device, dtype=tensor.dtype if tensor.is_floating_point() else None)
    return blur.train(module.training)


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace ``old`` by ``new`` under all its names in a model; its hooks and attached blurs move along."""
    share_hooks(old, new)
    for name in ("blur_before", "blur_after"):  # those of other ops
        if hasattr(old, name):
            new.add_module(name, old.get_submodule(name))
    for parent in list(model.modules()):
        for name, value in list(vars(parent).items()):
            if name == "_modules" or type(value) in (list, tuple, dict):
                vars(parent)[name] = _with_replaced(value, old, new)


def share_hooks(old: nn.Module, new: nn.Module) -> None:
    """Give a module the hook dictionaries of another, not copies, so that existing hook handles keep working."""
    for hooks, value in vars(old).items():
        if hooks.startswith(("_forward_", "_backward_", "_is_full_backward_")):
            vars(new)[hooks] = value


def _with_replaced(value: Any, old: nn.Module, new: nn.Module) -> Any:
    """A container with one module replaced by another; the same object if it does not hold that module."""
    if value is old:
        return new
    if isinstance(value, dict):
        found = {name: _with_replaced(item, old, new) for name, item in value.items()}
        if any(found[name] is not item for name, item in value.items()):
            value = value.copy()
            value.update(found)
    elif type(value) in (list, tuple):
        items = [_with_replaced(item, old, new) for item in value]
        if any(item is not before for item, before in zip(items, value, strict=True)):
            return type(value)(items)
    return value
