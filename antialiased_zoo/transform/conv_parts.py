"""Parts that cannot be traced but are, as a whole, one strided convolution: with "SAME" padding, or with an adapter.

A copy of such a part runs on small random maps, like a convolution with a forward of its own. Without values (on the
meta device) it must run, and run the same ops on large maps: so what it does depends on no value and on no threshold.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd

from .activations import is_pointwise
from .op_table import read_module
from .ops import Op
from .own_code import has_hooks_inside, reads_mode
from .stride_offsets import find_stride_offsets, set_stride, small_shape
from .trials import Apart, trial

_FAR = 1000  # strides between a small map and a large one


def conv_of_part(part: nn.Module) -> Op | None:
    """Return the `Op` of a part that is one strided convolution as a whole, or None."""
    ops = {name: op for name, module in part.named_modules() if name and (op := read_module(module)) is not None}
    strided = {name: op for name, op in ops.items() if op.strides}
    facts = {(op.kind, op.stride, op.in_channels, op.left) for op in strided.values()}
    if [kind for kind, *_ in facts] != ["conv"] or not all(op.strides or op.is_pointwise for op in ops.values()):
        return None
    if not all(map(_is_simple, part.modules())) or any(map(reads_mode, part.modules())) or has_hooks_inside(part):
        return None
    op = replace(max(strided.values(), key=lambda op: op.window.size if op.window else ()), strided=tuple(strided))
    keep = (1,) * len(op.stride)
    channels = _channels_at_every_size(part, op, keep)
    if channels is None or find_stride_offsets(part, op, keep) is None:
        return None
    return replace(op, out_channels=channels)


def _is_simple(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) or is_pointwise(module) or not module._parameters


def _channels_at_every_size(part: nn.Module, op: Op, keep: Sequence[int]) -> int | None:
    """Channels of a part's output; None if it does not run without values, or differs between small and large maps."""
    try:
        twin = copy.deepcopy(part).to("meta").eval()
        for stride in (op.stride, keep):
            set_stride(twin, op, stride)
            for index in range(max(op.stride)):
                batch, channels, *size = shape = small_shape(op, index)
                large = [n + (axis + _FAR) * max(op.stride) for axis, n in enumerate(size)]
                near, far = _ran(twin, shape), _ran(twin, (3 - batch, channels, *large))
                if near != far:
                    return None
        return near[-1]
    except Exception:  # a part's code may raise anything when it is called alone
        return None


def _ran(part: nn.Module, shape: Sequence[int]) -> tuple[list[Any], int]:
    """The ops that a part runs on a map of some shape, and the channels that it returns."""
    x = torch.empty(*shape, device="meta")
    with trial(), _Ops() as ops:
        return ops.found, part.forward(x).shape[1]


class _Ops(Apart):  # type: ignore[no-untyped-call]
    """Lists the ops that run, with their arguments except tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.found.append((func, fx.node.map_aggregate(args, lambda v: None if isinstance(v, Tensor) else v)))
        return super().__torch_dispatch__(func, types, args, kwargs)
