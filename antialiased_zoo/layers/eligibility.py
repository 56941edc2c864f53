"""What a tensor is, as far as the choice between ways to compute something depends on it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def layout_of(x: Tensor) -> torch.memory_format:
    """Channels-last if ``x`` is in that layout and in no other."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    channels_last = formats.get(x.dim())
    if channels_last and x.is_contiguous(memory_format=channels_last) and not x.is_contiguous():
        return channels_last
    return torch.contiguous_format


def needs_grad(x: Tensor) -> bool:
    """True where autograd records what happens to ``x``."""
    return x.requires_grad and torch.is_grad_enabled()


def is_plain(x: Tensor) -> bool:
    """True for an ordinary tensor: not compiled, traced, counted, fake, nor transformed (`torch.func`, forward AD)."""
    if torch.compiler.is_compiling() or type(x) not in (Tensor, torch.nn.Parameter):
        return False
    watched = torch._C._get_tracing_state() or torch._C._len_torch_dispatch_stack()
    transformed = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    return not watched and not transformed


def is_plain_cpu(x: Tensor) -> bool:
    """True for an ordinary tensor on the CPU in float32 or float64."""
    return x.is_cpu and x.dtype in (torch.float32, torch.float64) and is_plain(x)


def is_onednn_map(x: Tensor) -> bool:
    """True for an ordinary tensor that oneDNN convolves."""
    return x.dtype == torch.float32 and is_plain_cpu(x) and has_onednn()


def has_onednn() -> bool:
    """True if torch has oneDNN and may use it."""
    return torch._C._has_mkldnn and torch._C._get_mkldnn_enabled()
