"""Runs the nodes of a traced graph one by one on small random maps, with random weights and without randomness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd

from .activations import function_name, is_activation, is_map_norm, is_pointwise, is_registered
from .trials import drawn_copy, run_apart

IMAGES = 2  # in a batch of maps
SIZES = (6, 10, 14)  # of maps: even with odd halves, and all different, so that reshaping and flipping are noticed
_MOST_NUMBERS = 1 << 20  # in a constant
_MIXING = (_ConvNd, nn.Linear, nn.Bilinear, nn.RNNBase, nn.MultiheadAttention, nn.Embedding)
# These are random or use batch statistics in training; in evaluation they are affine at each position.
_AFFINE = ("alpha_dropout", "batch_norm", "dropout", "feature_alpha_dropout", "feature_dropout")


class UnknownValueError(Exception):
    """A node's value depends on more than the maps, or mixes positions or channels by weights."""


class NodeRunner:
    """Runs nodes, given the values of those that they read.

    Args:
        module: Returns the module that a node calls, or None.
        attribute: Returns the tensor that a node reads from the model.
    """

    def __init__(self, module: Callable[[fx.Node], nn.Module | None], attribute: Callable[[fx.Node], Any]) -> None:
        self._module, self._attribute = module, attribute
        self._generator = torch.Generator().manual_seed(0)
        self._constants: dict[fx.Node, Any] = {}
        self._copies: dict[nn.Module, nn.Module] = {}

    def run(self, node: fx.Node, value: Callable[[fx.Node], Any]) -> Any:
        """A node's value; raises any error of what it calls."""

        def given(n: fx.Node) -> Any:
            found = value(n)
            return found.clone() if isinstance(found, Tensor) else found  # the node may change it in place

        taken: Any = fx.map_arg((node.args, node.kwargs), given)
        args, kwargs = taken
        target: Any = node.target
        if node.op == "call_module":
            return self._run_module(node, *args, **kwargs)
        if is_registered(target) or function_name(target) == "rrelu":  # its slopes are random
            return F.silu(args[0] if args else next(iter(kwargs.values())))
        if function_name(target).startswith(_AFFINE):
            return args[0] if args else kwargs["input"]
        if node.op == "call_method":
            return run_apart(getattr(args[0], target), *args[1:], **kwargs)
        return run_apart(target, *args, **kwargs)

    def _run_module(self, node: fx.Node, *args: Any, **kwargs: Any) -> Any:
        module = self._module(node)
        if module is None or is_map_norm(module):
            raise UnknownValueError
        if is_pointwise(module):
            x = args[0] if args else next(iter(kwargs.values()))
            return F.silu(x) if is_activation(module) else x
        if module not in self._copies:
            mixes = any(isinstance(inner, _MIXING) for inner in module.modules())
            if mixes or sum(t.numel() for t in (*module.parameters(), *module.buffers())) > _MOST_NUMBERS:
                raise UnknownValueError
            self._copies[module] = drawn_copy(module, self.drawn)
        return run_apart(self._copies[module].forward, *args, **kwargs)

    def constant(self, node: fx.Node) -> Any:
        """A value that depends on no input; tensors are random, since parameters at zero would hide what they do."""
        if node not in self._constants:
            self._constants[node] = self._constant(node)
        return self._constants[node]

    def _constant(self, node: fx.Node) -> Any:
        if node.op in ("call_function", "call_method"):
            return self.run(node, self.constant)
        if node.op != "get_attr":
            raise UnknownValueError
        value = self._attribute(node)
        if not isinstance(value, Tensor):
            return value
        if (value.is_meta and not value.is_floating_point()) or value.numel() > _MOST_NUMBERS:
            raise UnknownValueError
        return self.drawn(value.shape) if value.is_floating_point() else value.cpu()

    def drawn(self, shape: Sequence[int]) -> Tensor:
        """Random numbers from 0.25 to 0.75: valid as variances and slopes, and not near 0 or 1."""
        return torch.rand(tuple(shape), generator=self._generator, dtype=torch.float32) / 2 + 0.25

    def random(self, shape: Sequence[int]) -> Tensor:
        """Random numbers of both signs, with magnitudes from near 0 to some hundreds."""
        one, other = (torch.randn(tuple(shape), generator=self._generator, dtype=torch.float32) for _ in range(2))
        return 3 * one * other.exp()
