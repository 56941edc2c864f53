"""What antialiasing costs at an input size: extra multiply-adds, and activations kept for the backward pass."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from ..layers import FilterSize
from . import planner
from .apply import apply_plan
from .downsamplers import Downsampler, make_downsampler
from .options import PlanOptions
from .plans import Cost, Plan, Site, Totals


def plan(
    model: nn.Module,
    *,
    input_size: Sequence[int] | None = None,
    filter_size: FilterSize = 4,
    pad_type: str = "reflect",
    wide: bool = False,
    downsampler: str = "blur",
    graph: bool = False,
    **options: Unpack[PlanOptions],
) -> Plan:
    """Find every op of a model that strides, where its blur belongs, and what it costs. Nothing is changed.

    The model is traced with `torch.fx`, not run: it may be on any device, the meta device too.
    Where its control flow depends on values, its parts are read one by one, which the plan's notes
    say. Convolutions and pools with a forward of their own are tried out: copies of them, on small
    random maps.

    Costs are measured on copies without data (on the meta device), in evaluation mode with
    gradients: multiply-adds as torch's flop counter finds them, with blurs as the depthwise
    convolutions that they are on a GPU; activations as the bytes of what autograd keeps. A site's
    share is what its treatment adds to those before it. A model that cannot run without values
    (detection models) is copied and run on zeros, once for each site, and a note says so.

    Args:
        model: The network to read.
        input_size: Shape of the model's input with its batch, such as ``(1, 3, 224, 224)``: adds
            the costs.
        filter_size: Of the blurs whose cost is measured.
        pad_type: Of the blurs whose cost is measured.
        wide: Of the blurs whose cost is measured.
        downsampler: See `antialias_`; the one whose cost is measured.
        graph: Place blurs between the nodes of a graph instead of beside modules: functions and
            shared modules can be treated too, but the transformed model becomes a
            `torch.fx.GraphModule`.
        **options: The other options of `antialias_`.

    Returns:
        The `Plan`; with an ``input_size``, its ``totals`` and every treated site's ``extra`` are
        there.

    Raises:
        ValueError: If an option is out of range, or the model does not take an input of that size.

    Source: Zhang, ICML 2019, section 3.2 (figure 2), and the published networks.

    Example:
        >>> print(plan(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))))
        op  kind     stride  kept  channels  blur       reason
        2   maxpool  2x2     1x1   any       instead 2  dense maximum, then blur
        >>> net = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU())
        >>> round(plan(net, input_size=(1, 8, 64, 64), stem_stride=1).totals.multiply_adds_ratio, 2)
        4.22
    """
    found = planner.plan(model, graph=graph, **options)
    if input_size is None:
        return found
    size, way = tuple(input_size), make_downsampler(downsampler, filter_size, pad_type, wide)
    if not size or not all(isinstance(n, int) and n > 0 for n in size):
        raise ValueError(f"input_size must be the shape of a batch, such as (1, 3, 224, 224), got {input_size!r}")
    try:
        return _with_costs(model, found, size, way, on_meta=True)
    except Exception as error:  # a model's own code may raise anything where there are no values
        note = f"costs: run on zeros, since the model does not run without values ({_first_line(error)})"
    try:
        found = replace(found, notes=(*found.notes, note))
        return _with_costs(model, found, size, way, on_meta=False)
    except Exception as error:
        name, shape = type(model).__name__, "x".join(map(str, size))
        raise ValueError(f"{name} does not run on one input of {shape} zeros: {_first_line(error)}") from error


def cost_of(model: nn.Module, input_size: Sequence[int]) -> Cost:
    """What one forward pass takes, on the device that the model is on; see `plan`.

    Args:
        model: In evaluation mode.
        input_size: Shape of its input.

    Example:
        >>> cost_of(nn.Conv2d(8, 16, 3, device="meta"), (1, 8, 10, 10))  # 16 * 8 * 8 outputs of 8 * 3 * 3 terms
        Cost(multiply_adds=73728, activation_bytes=3200)
    """
    from torch.utils.flop_counter import FlopCounterMode  # slow to import

    own = {_storage(tensor) for tensor in _tensors(model)}
    kept: dict[int, Tensor] = {}  # by storage: what two ops keep counts once

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in own:
            kept[_storage(tensor)] = tensor
        return tensor

    some = next((tensor for tensor in _tensors(model) if tensor.is_floating_point()), torch.empty(0))
    counter = FlopCounterMode(display=False)
    keeping = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with torch.device(some.device), torch.enable_grad(), counter, keeping:
        model(torch.zeros(*input_size, dtype=some.dtype))
    return Cost(counter.get_total_flops() // 2, sum(tensor.untyped_storage().nbytes() for tensor in kept.values()))


def _with_costs(model: nn.Module, found: Plan, size: tuple[int, ...], way: Downsampler, on_meta: bool) -> Plan:
    """Treat one site after the other, in copies, and note what each adds."""

    def cost(sites: tuple[Site, ...]) -> Cost:
        twin = _without_data(model) if on_meta else copy.deepcopy(model)
        twin = apply_plan(twin, replace(found, sites=sites), way).eval()
        for parameter in twin.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        return cost_of(twin.to("meta") if on_meta else twin, size)

    before = so_far = cost(())
    sites: tuple[Site, ...] = ()
    for site in found.sites:
        sites += (site,)
        if site.placement:
            reached = cost(sites)
            sites = (*sites[:-1], replace(site, extra=reached - so_far))
            so_far = reached
    return replace(found, sites=sites, totals=Totals(size, before, so_far))


def _without_data(model: nn.Module) -> nn.Module:
    """A deep copy on the meta device; the model's own tensors are never copied."""
    empty: dict[int, Tensor] = {}
    for tensor in _tensors(model):
        on_meta = tensor.detach().to("meta")
        empty[id(tensor)] = nn.Parameter(on_meta, False) if isinstance(tensor, nn.Parameter) else on_meta
    return copy.deepcopy(model, empty)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # type: ignore[no-any-return]  # as torch has it


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
