"""The private names of torch that this package calls, because nothing public does the same.

`tests/layers/test_torch_internals.py` has a test for each, so that a torch without one fails there by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor


def is_jit_tracing() -> bool:
    """True inside `torch.jit.trace` and the exporters built on it."""
    return torch._C._get_tracing_state() is not None


def is_dispatch_mode_active() -> bool:
    """True inside a `TorchDispatchMode`: fake tensors, a FLOP counter, a recorder of operators."""
    return torch._C._len_torch_dispatch_stack() > 0


def is_functorch_active() -> bool:
    """True inside a `torch.func` transform such as ``vmap`` or ``grad``."""
    return torch._C._are_functorch_transforms_active()


def reorder_conv2d_weight(
    weight: Tensor, padding: Any, stride: Any, dilation: Any, groups: int, input_shape: Sequence[int]
) -> Tensor:
    """A float32 convolution weight in the layout that oneDNN prefers for inputs of one shape."""
    plain = weight.contiguous().to_mkldnn()
    reorder = torch.ops.aten.mkldnn_reorder_conv2d_weight
    return cast(Tensor, reorder(plain, padding, stride, dilation, groups, input_shape))


def conv2d_reordered(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: Any, stride: Any, dilation: Any, groups: int
) -> Tensor:
    """The convolution of ``x`` with a weight of `reorder_conv2d_weight`."""
    # torch's public convolution would put such a weight back into torch's layout first.
    convolve = torch.ops.mkldnn._convolution_pointwise
    return cast(Tensor, convolve(x, weight, bias, padding, stride, dilation, groups, "none", [], ""))
