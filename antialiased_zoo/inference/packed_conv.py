"""A convolution for inference that keeps its weight in oneDNN's layout."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ..layers import conv2d_reordered, is_onednn_map, needs_grad, reorder_conv2d_weight
from ..transform import is_plain

_Model = TypeVar("_Model", bound=nn.Module)


class _Packed(NamedTuple):
    """A reordered weight, and the weight that it was made from."""

    reordered: Tensor
    weight: Tensor  # a reference, so that no other tensor gets its address
    made_of: tuple[Any, ...]


class PackedConv2d(nn.Conv2d):
    """`nn.Conv2d` that reorders its weight for oneDNN once per input shape; torch reorders it at every call.

    For one image that saves a fifth of a ResNet's time on a CPU. The original weight is kept too, so
    this takes twice its memory. A changed weight (``load_state_dict``, an optimizer, a new
    parameter) is noticed at the next call; values written through ``weight.data`` are not. With
    other dtypes or devices, autocast, gradients, a compiler or a tracer it behaves like
    `nn.Conv2d`.

    Example:
        >>> conv = pack_(nn.Conv2d(3, 8, 3)).requires_grad_(False)
        >>> type(conv).__name__, conv(torch.ones(1, 3, 16, 16)).shape
        ('PackedConv2d', torch.Size([1, 8, 14, 14]))
    """

    _packed: _Packed | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``input``."""
        if not self._packs(input):
            return super().forward(input)
        settings = self.padding, self.stride, self.dilation, self.groups
        return conv2d_reordered(input, self._reordered(input), self.bias, *settings)

    def _packs(self, x: Any) -> bool:
        if not isinstance(x, Tensor) or x.dim() != 4 or not x.numel() or torch.is_autocast_enabled("cpu"):
            return False
        if x.shape[1] != self.in_channels:  # nn.Conv2d raises the error
            return False
        tensors = [x, self.weight] if self.bias is None else [x, self.weight, self.bias]
        if not all(is_onednn_map(tensor) and not needs_grad(tensor) for tensor in tensors):
            return False
        return not self.weight.is_inference()  # inference tensors have no version counter

    def _reordered(self, x: Tensor) -> Tensor:
        weight, packed = self.weight.detach(), self._packed
        made_of = (weight.data_ptr(), weight._version, weight.shape, weight.stride(), x.shape)
        if packed is None or packed.made_of != made_of:
            settings = self.padding, self.stride, self.dilation, self.groups
            reordered = reorder_conv2d_weight(weight, *settings, x.shape)  # the best layout depends on the input
            self._packed = packed = _Packed(reordered, weight, made_of)
        return packed.reordered

    def __getstate__(self) -> dict[str, Any]:
        """Leave the reordered weight out of copies and pickles."""
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}


def pack_(model: _Model) -> _Model:
    """Turn each `nn.Conv2d` of a model into a `PackedConv2d`, in place; names and tensors stay.

    Args:
        model: A network for inference.

    Returns:
        The same model.
    """
    for module in model.modules():
        zeros = type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)
        if zeros and is_plain(module):
            module.__class__ = PackedConv2d
    return model
