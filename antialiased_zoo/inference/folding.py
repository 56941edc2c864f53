"""A faster copy of a network for inference: batch norms folded, weights reordered for oneDNN, frozen."""

from __future__ import annotations

import copy

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..transform import Dataflow, blur_before, is_plain, replace_module
from .compiled import uncompiled
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
        model: A network that `torch.fx` can trace, with trained statistics; antialiased or not. Of a
            compiled one, the module inside is copied: compile the copy again.

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
    model = copy.deepcopy(uncompiled(model)).eval()
    flow = Dataflow(model)
    for node in list(flow.graph.nodes):
        if (found := _foldable(node, flow)) is not None:
            conv, norm = found
            replace_module(model, conv, fuse_conv_bn_eval(conv, norm))
            replace_module(model, norm, nn.Identity())
    return pack_(model.requires_grad_(False).to(memory_format=torch.channels_last))


def _foldable(node: fx.Node, flow: Dataflow) -> tuple[nn.Conv2d, nn.BatchNorm2d] | None:
    """A batch norm and the convolution that it is the only reader of, if no hook or tool sees or changes the value."""
    source = node.args[0] if node.args else None
    norm, conv = flow.module(node), flow.module(source) if isinstance(source, fx.Node) else None
    if type(norm) is not nn.BatchNorm2d or type(conv) is not nn.Conv2d or not isinstance(source, fx.Node):
        return None
    once = flow.called_once(str(node.target)) and flow.called_once(str(source.target)) and len(source.users) == 1
    # A pre-hook may compute the weight, as that of `torch.nn.utils.spectral_norm` does.
    hooks = (*conv._forward_pre_hooks.values(), *conv._forward_hooks.values())
    hooked = norm._forward_hooks or norm._forward_pre_hooks or any(hook is not blur_before for hook in hooks)
    plain = is_plain(conv) and "forward" not in vars(norm) and norm.running_mean is not None
    return (conv, norm) if once and plain and not hooked else None
