"""The cost of antialiasing at an input size: extra multiply-adds, and activations saved for the backward pass."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from ..layers import FilterSize, storage_key
from .apply import apply_plan
from .downsamplers import Downsampler, LacksMethodError, make_downsampler
from .options import PlanOptions
from .planner import read_plan
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
    """List every strided op of a model, where its blur goes, and what it costs, without changing the model.

    The model is traced with `torch.fx`, not run, so it may be on any device, including the meta
    device. If its control flow depends on values, its parts are read one by one, and the plan's
    notes say so. Convolutions and pools with their own forward are tested: copies of them run on
    small random maps.

    Costs are measured on copies without data (on the meta device), in evaluation mode with
    gradients: multiply-adds as counted by torch's FLOP counter, with blurs as depthwise
    convolutions (as on a GPU); activations as the bytes that autograd saves. A site's cost is what
    it adds to the sites before it. A model that does not run on the meta device (detection models)
    is copied and run on zeros, once for each site, and a note says so.

    Args:
        model: The network to read.
        input_size: Shape of the model's input including the batch, such as ``(1, 3, 224, 224)``; if
            given, costs are measured.
        filter_size: Filter size of the blurs whose cost is measured.
        pad_type: Padding of the blurs whose cost is measured.
        wide: Whether the blurs whose cost is measured are widened.
        downsampler: The downsampler whose cost is measured; see `antialias_`.
        graph: Plan for a graph: functions and shared modules can be treated too, but the
            antialiased model becomes a `torch.fx.GraphModule`.
        **options: The other options of `antialias_`.

    Returns:
        The `Plan`. With an ``input_size``, its ``totals`` and the ``extra`` of its treated sites are
        set.

    Raises:
        ValueError: If an option is out of range, or the model does not run on an input of that size.

    Source: Zhang, ICML 2019, section 3.2 (figure 2), and the published networks.

    Example:
        >>> print(plan(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))))
        op  kind     stride  kept  channels  blur       reason
        2   maxpool  2x2     1x1   any       instead 2  dense maximum, then blur
        >>> net = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU())
        >>> round(plan(net, input_size=(1, 8, 64, 64), stem_stride=1).totals.multiply_adds_ratio, 2)
        4.22
    """
    found = read_plan(model, graph=graph, **options)
    if input_size is None:
        return found
    size, way = tuple(input_size), make_downsampler(downsampler, filter_size, pad_type, wide)
    if not size or not all(isinstance(n, int) and n > 0 for n in size):
        raise ValueError(f"input_size must be the shape of a batch, such as (1, 3, 224, 224), got {input_size!r}")
    try:
        return _with_costs(model, found, size, way, on_meta=True)
    except Exception as error:  # a model's own code may raise anything on the meta device
        note = f"costs: run on zeros, since the model does not run on the meta device ({_first_line(error)})"
    try:
        found = replace(found, notes=(*found.notes, note))
        return _with_costs(model, found, size, way, on_meta=False)
    except LacksMethodError:
        raise
    except Exception as error:
        name, shape = type(model).__name__, "x".join(map(str, size))
        raise ValueError(f"{name} does not run on one input of {shape} zeros: {_first_line(error)}") from error


def cost_of(model: nn.Module, input_size: Sequence[int]) -> Cost:
    """The cost of one forward pass on the model's device; see `plan`.

    Args:
        model: The model, in evaluation mode.
        input_size: Shape of its input.

    Example:
        >>> cost_of(nn.Conv2d(8, 16, 3, device="meta"), (1, 8, 10, 10))  # 16 * 8 * 8 outputs of 8 * 3 * 3 terms
        Cost(multiply_adds=73728, activation_bytes=3200)
    """
    from torch.utils.flop_counter import FlopCounterMode  # slow to import

    own = {storage_key(tensor) for tensor in _tensors(model)}
    kept: dict[int, Tensor] = {}  # by storage: a tensor saved by two ops counts once

    def keep(tensor: Tensor) -> Tensor:
        if storage_key(tensor) not in own:
            kept[storage_key(tensor)] = tensor
        return tensor

    some = next((tensor for tensor in _tensors(model) if tensor.is_floating_point()), torch.empty(0))
    counter = FlopCounterMode(display=False)
    keeping = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with torch.device(some.device), torch.enable_grad(), counter, keeping:
        model(torch.zeros(*input_size, dtype=some.dtype))
    return Cost(counter.get_total_flops() // 2, sum(tensor.untyped_storage().nbytes() for tensor in kept.values()))


def _with_costs(model: nn.Module, found: Plan, size: tuple[int, ...], way: Downsampler, on_meta: bool) -> Plan:
    """Treat one site more at a time, or those that need each other, each time in a copy, and record what it adds."""

    def cost(sites: tuple[Site, ...]) -> Cost:
        twin = without_data(model) if on_meta else copy.deepcopy(model)
        twin = apply_plan(twin, replace(found, sites=sites), way).eval()
        for parameter in twin.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        return cost_of(twin.to("meta") if on_meta else twin, size)

    before = so_far = cost(())
    sites: list[Site] = []
    extra: dict[str, Cost] = {}
    for site in found.treated:
        if site not in sites:
            together = site.shares or site.name  # branches of a sum, or the calls of one convolution in a graph
            sites += [s for s in found.treated if together in (s.shares, s.name)]
            reached = cost(tuple(sites))
            extra[site.node or site.name] = reached - so_far
            so_far = reached
    listed = tuple(replace(site, extra=extra.get(site.node or site.name)) for site in found.sites)
    return replace(found, sites=listed, totals=Totals(size, before, so_far))


def without_data(model: nn.Module) -> nn.Module:
    """A deep copy on the meta device, made without copying the model's tensors; the model itself may run meanwhile."""
    empty: dict[int, Tensor] = {}
    for tensor in _tensors(model):
        on_meta = tensor.detach().to("meta")
        empty[id(tensor)] = nn.Parameter(on_meta, False) if isinstance(tensor, nn.Parameter) else on_meta
    return copy.deepcopy(model, empty)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
