"""Records which ops of a network stride while it runs, independently of the tracing in `antialiased_zoo.transform`.

A `TorchDispatchMode` sees every operator that reaches torch's core, whatever Python code called it, and module hooks
record the module. Blurs inserted by this package are not listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from antialiased_zoo.layers.modules import Blurred


@dataclass(frozen=True)
class StridedOp:
    """One kind of strided operator in one module.

    Attributes:
        path: Qualified name of the innermost module that ran it; "" for the network itself.
        kind: As in a plan: "conv", "maxpool", "avgpool", "adaptive", "slice", "resize", "unshuffle".
        stride: Steps along the spatial axes (for slices, of the axis); empty if it depends on the input's size.
    """

    path: str
    kind: str
    stride: tuple[int, ...]


def strided_ops(model: nn.Module, *inputs: Tensor) -> tuple[Any, Counter[StridedOp]]:
    """Run a model once; return its output and how often each strided operator ran.

    Args:
        model: Any network, in evaluation mode.
        *inputs: Its inputs.
    """
    recorder = _Recorder(model)
    before = register_module_forward_pre_hook(recorder.enter)
    after = register_module_forward_hook(recorder.leave, always_call=True)
    try:
        with torch.no_grad(), recorder:
            output = model(*inputs)
    finally:
        before.remove()
        after.remove()
    return output, recorder.found


class _Recorder(TorchDispatchMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.found: Counter[StridedOp] = Counter()
        self._names = {module: name for name, module in model.named_modules()}
        self._inside: list[nn.Module] = []

    def enter(self, module: nn.Module, _: Any) -> None:
        self._inside.append(module)

    def leave(self, module: nn.Module, *_: Any) -> None:
        # If a model catches an error, modules that never returned are still on the stack.
        while self._inside and self._inside.pop() is not module:
            pass

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        reader = _reader(func.overloadpacket.__name__)
        found = reader(args, result) if reader and not any(isinstance(m, Blurred) for m in self._inside) else None
        if found is not None and (not found[1] or max(found[1]) > 1):
            known = [self._names[module] for module in self._inside if module in self._names]
            self.found[StridedOp(known[-1] if known else "", *found)] += 1
        return result


Reader = Callable[[tuple[Any, ...], Any], "tuple[str, tuple[int, ...]] | None"]


def _conv(args: tuple[Any, ...], _: Any) -> tuple[str, tuple[int, ...]] | None:
    transposed = args[6]
    return None if transposed else ("conv", tuple(args[3]))


def _pool(kind: str) -> Reader:
    return lambda args, _: (kind, tuple(args[2] if len(args) > 2 and args[2] else args[1]))


def _smaller(kind: str, most: int) -> Reader:
    """An op whose output is smaller than its input, but larger than ``most``, along some axis."""

    def read(args: tuple[Any, ...], result: Any) -> tuple[str, tuple[int, ...]] | None:
        old, new = args[0].shape[2:], (result[0] if isinstance(result, tuple) else result).shape[2:]
        return (kind, ()) if any(most < n < o for o, n in zip(old, new, strict=True)) else None

    return read


def _split(args: tuple[Any, ...], result: Any) -> tuple[str, tuple[int, ...]] | None:
    """One of the positions that a view groups, such as ``x.view(n, c, h, w // 2, 2)[..., 0]``."""
    dims = args[0].dim()
    dim = (args[1] if len(args) > 1 else 0) % dims  # `unbind` without an axis takes the first
    return ("slice", ()) if dims > 4 and dim > 1 and args[0]._base is not None else None


def _chunks(args: tuple[Any, ...], _: Any) -> tuple[str, tuple[int, ...]] | None:
    return _split((args[0], *args[2:]), None)


def _reduction(kind: str) -> Reader:
    """A reduction over windows that a view groups."""

    def read(args: tuple[Any, ...], _: Any) -> tuple[str, tuple[int, ...]] | None:
        dims = args[1] if len(args) > 1 and isinstance(args[1], (tuple, list)) else args[1:2]
        split = args[0].dim() > 4 and args[0]._base is not None
        return (kind, ()) if split and dims and all(dim % args[0].dim() > 2 for dim in dims) else None

    return read


def _deformed(args: tuple[Any, ...], _: Any) -> tuple[str, tuple[int, ...]]:
    return "conv", (args[5], args[6])


def _index(args: tuple[Any, ...], result: Any) -> tuple[str, tuple[int, ...]] | None:
    old, new = args[0].shape[2:], result.shape[2:]
    return ("slice", ()) if len(old) == len(new) and any(n < o for o, n in zip(old, new, strict=True)) else None


def _windows(args: tuple[Any, ...], _: Any) -> tuple[str, tuple[int, ...]]:
    return "unshuffle", (args[3],)


def _slice(args: tuple[Any, ...], result: Any) -> tuple[str, tuple[int, ...]] | None:
    if len(args) > 4:
        return "slice", (args[4],)
    return _split(args, result) if args[0].shape != result.shape else None


def _unshuffle(args: tuple[Any, ...], _: Any) -> tuple[str, tuple[int, ...]]:
    return "unshuffle", (args[1], args[1])


def _patches(args: tuple[Any, ...], _: Any) -> tuple[str, tuple[int, ...]]:
    return "unshuffle", tuple(args[4])


_READERS: dict[str, Reader] = {
    "convolution": _conv,
    **{f"max_pool{n}d_with_indices": _pool("maxpool") for n in (1, 2, 3)},
    **{f"avg_pool{n}d": _pool("avgpool") for n in (1, 2, 3)},
    **{f"_adaptive_avg_pool{n}d": _smaller("adaptive", 1) for n in (2, 3)},
    **{f"adaptive_max_pool{n}d": _smaller("adaptive", 1) for n in (2, 3)},
    **{f"fractional_max_pool{n}d": _smaller("fractional", 1) for n in (2, 3)},
    "deform_conv2d": _deformed,
    **{name: _reduction("avgpool") for name in ("mean", "sum")},
    **{name: _reduction("maxpool") for name in ("amax", "amin", "max", "min")},
    "unbind": _split,
    **dict.fromkeys(("split", "split_with_sizes"), _chunks),
    "gather": _index,
    "as_strided": _smaller("slice", 0),
    **{f"grid_sampler_{n}d": _smaller("slice", 0) for n in (2, 3)},
    "slice": _slice,
    "select": _split,
    "index_select": _index,
    "index": _index,
    "unfold": _windows,
    "pixel_unshuffle": _unshuffle,
    "im2col": _patches,
}


def _reader(name: str) -> Reader | None:
    resizes = name.lstrip("_").startswith("upsample_") and not name.endswith("_aa")  # those low-pass filter
    return _smaller("resize", 0) if resizes else _READERS.get(name)
