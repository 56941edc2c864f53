"""A stand-in for tensors on a device without float64, such as Apple's mps, on machines that have none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


class WithoutFloat64(Tensor):
    """A tensor whose results are of its class until ``cpu()`` or a Python number is asked for; float64 is an error."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = super().__torch_function__(func, types, args, kwargs or {})
        if func is Tensor.cpu:
            return result.as_subclass(Tensor)
        with torch._C.DisableTorchFunctionSubclass():  # reading a dtype would come here again
            double = any(isinstance(x, Tensor) and x.dtype is torch.float64 for x in (*args, result))
        if double:
            raise RuntimeError(f"this device has no float64: {getattr(func, '__name__', func)}")
        return result
