"""Properties of a tensor that decide which kernels support it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .torch_internals import is_dispatch_mode_active, is_function_mode_active, is_functorch_active, is_jit_tracing


def layout_of(x: Tensor) -> torch.memory_format:
    """Channels-last if ``x`` has that layout and is not also contiguous, else contiguous."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    channels_last = formats.get(x.dim())
    if is_functorch_active():  # vmap knows no other layout, neither to ask for nor to make
        return torch.contiguous_format
    if channels_last and x.is_contiguous(memory_format=channels_last) and not x.is_contiguous():
        return channels_last
    return torch.contiguous_format


def needs_grad(x: Tensor) -> bool:
    """True if autograd records operations on ``x``."""
    return x.requires_grad and torch.is_grad_enabled()


def is_plain(x: Tensor) -> bool:
    """True for an ordinary tensor in eager mode: not compiled, traced, recorded, fake or in `torch.func` transforms."""
    if torch.compiler.is_compiling() or type(x) not in (Tensor, torch.nn.Parameter):
        return False
    if is_jit_tracing() or is_dispatch_mode_active() or is_function_mode_active() or is_functorch_active():
        return False
    return forward_ad.unpack_dual(x).tangent is None  # type: ignore[no-untyped-call]


def is_onednn_map(x: Tensor) -> bool:
    """True for an ordinary float32 CPU tensor that oneDNN can convolve."""
    return is_plain(x) and x.is_cpu and x.dtype == torch.float32 and has_onednn()


def has_onednn() -> bool:
    """True if this build of torch has oneDNN and may use it."""
    onednn = torch.backends.mkldnn
    return bool(onednn.is_available() and onednn.enabled)  # type: ignore[no-untyped-call]
