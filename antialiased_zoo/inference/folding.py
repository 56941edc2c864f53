"""A faster copy of a network for inference: batch norms folded, weights reordered for oneDNN, frozen."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..transform import Dataflow, replace_module
from .packed_conv import pack_


def for_inference(model: nn.Module) -> nn.Module:
    """Return a copy of a model that computes the same in evaluation mode, but faster.

    * A batch norm that is the only reader of a 2-D convolution is folded into its weights, which
      saves a pass over the map and the memory for it.
    * A 2-D convolution keeps its weight in oneDNN's layout, where torch reorders it at every call
      (`packed_conv.PackedConv2d`; this takes twice the weight's memory).
    * 4-D weights are in channels-last, the faster layout on most CPUs. Pass images in channels-last
      too: ``x.contiguous(memory_format=torch.channels_last)``.
    * No parameter requires a gradient.

    Args:
        model: A network that `torch.fx` can trace, with trained statistics; antialiased or not.

    Returns:
        The copy, in evaluation mode; the model itself is not changed. The outputs agree to rounding.
        The copy is not for training: its batch norms are gone, and its state dict has changed.

    Raises:
        antialiased_zoo.transform.UntraceableError: If the model's forward depends on values.

    Example:
        >>> import antialiased_zoo as az
        >>> quick = az.for_inference(az.mobilenet_v2())
        >>> type(quick.features[0][1]).__name__
        'Identity'
    """
    model = copy.deepcopy(model).eval()
    flow = Dataflow(model)
    for node in list(flow.graph.nodes):
        norm, conv = flow.module(node), _convolution_before(node, flow)
        if isinstance(norm, nn.BatchNorm2d) and conv is not None:
            old = cast(nn.Conv2d, flow.module(conv))
            replace_module(model, old, fuse_conv_bn_eval(old, norm))
            replace_module(model, norm, nn.Identity())
    return pack_(model.requires_grad_(False).to(memory_format=torch.channels_last))


def _convolution_before(node: fx.Node, flow: Dataflow) -> fx.Node | None:
    """The convolution that a batch norm is the only reader of, if no hook sees the value; else None."""
    norm = flow.module(node)
    if type(norm) is not nn.BatchNorm2d or norm.running_mean is None or not isinstance(source := node.args[0], fx.Node):
        return None
    conv = flow.module(source)
    once = flow.called_once(str(node.target)) and flow.called_once(str(source.target)) and len(source.users) == 1
    hooked = norm._forward_hooks or norm._forward_pre_hooks or (conv is not None and conv._forward_hooks)
    return source if type(conv) is nn.Conv2d and once and not hooked else None
