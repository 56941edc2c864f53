"""A convolution for inference alone that keeps its weight as oneDNN wants it."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from ..layers import is_onednn_map, needs_grad

_Model = TypeVar("_Model", bound=nn.Module)


class _Packed(NamedTuple):
    """A rearranged weight, and what it was made of."""

    rearranged: Tensor
    weight: Tensor  # held, so that no other can come to lie at its address
    made_of: tuple[Any, ...]


class PackedConv2d(nn.Conv2d):
    """`nn.Conv2d`, quicker on a CPU: torch rearranges the weight at every call, this once for each size of the input.

    With one image that is a fifth of a ResNet's time. The weight itself stays, so that this takes twice its memory.
    What autograd sees of the weight's changes (``load_state_dict``, an optimizer) counts at once; a change of the
    values of ``weight.data`` does not. Where oneDNN or this way of calling it does not apply (other dtypes and
    devices, autocast, gradients, a compiler, a tracer), it is plain `nn.Conv2d`.

    Example:
        >>> conv = pack_(nn.Conv2d(3, 8, 3)).requires_grad_(False)
        >>> type(conv).__name__, conv(torch.ones(1, 3, 16, 16)).shape
        ('PackedConv2d', torch.Size([1, 8, 14, 14]))
    """

    _packed: _Packed | None = None

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of ``input``."""
        if not self._packs(input):
            return super().forward(input)
        # Of torch's convolutions the one that its compiler calls takes such a weight without rearranging it back.
        settings = self.padding, self.stride, self.dilation, self.groups
        convolve = torch.ops.mkldnn._convolution_pointwise
        return cast(Tensor, convolve(input, self._rearranged(input), self.bias, *settings, "none", [], ""))

    def _packs(self, x: Any) -> bool:
        if not isinstance(x, Tensor) or x.dim() != 4 or not x.numel() or torch.is_autocast_enabled("cpu"):
            return False
        if x.shape[1] != self.in_channels:  # torch's error says so
            return False
        tensors = [x, self.weight] if self.bias is None else [x, self.weight, self.bias]
        if not all(is_onednn_map(tensor) and not needs_grad(tensor) for tensor in tensors):
            return False
        return not self.weight.is_inference()  # nothing counts the changes of such a tensor

    def _rearranged(self, x: Tensor) -> Tensor:
        weight, packed = self.weight.detach(), self._packed
        made_of = (weight.data_ptr(), weight._version, weight.shape, weight.stride(), x.shape)
        if packed is None or packed.made_of != made_of:
            rearranged = torch.ops.aten.mkldnn_reorder_conv2d_weight(
                weight.contiguous().to_mkldnn(),
                self.padding,
                self.stride,
                self.dilation,
                self.groups,
                x.shape,  # for another size oneDNN may want another arrangement
            )
            self._packed = packed = _Packed(rearranged, weight, made_of)
        return packed.rearranged

    def __getstate__(self) -> dict[str, Any]:
        """Copies and files go without what can be made anew."""
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}


def pack_(model: _Model) -> _Model:
    """Make each `nn.Conv2d` of a model a `PackedConv2d`; names and tensors stay.

    Args:
        model: A network for inference.

    Returns:
        The same model.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            module.__class__ = PackedConv2d
    return model
