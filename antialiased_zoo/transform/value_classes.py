"""The class that a value would have when a model runs, told from the node that stands for it in a trace."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from .activations import function_name, registered_activations

# Functions and methods of torch that return several tensors, and those that return neither tensors nor integers.
_SEVERAL_NAMES = """
aminmax atleast_1d atleast_2d atleast_3d broadcast_tensors chunk cummax cummin dsplit frexp geqrf gradient
histogram histogramdd hsplit kthvalue lobpcg lu max median meshgrid min mode nanmedian pca_lowrank slogdet sort
split split_copy split_with_sizes split_with_sizes_copy std_mean svd svd_lowrank tensor_split topk
triangular_solve unbind unbind_copy unique unique_consecutive unsafe_chunk unsafe_split unsafe_split_with_sizes
var_mean vsplit
"""
_SEVERAL = frozenset(_SEVERAL_NAMES.split())
_NUMBERS = frozenset(
    ["dense_dim", "dim", "element_size", "ndimension", "nelement", "numel", "sparse_dim", "storage_offset"]
)
_OTHER_NAMES = """
allclose const_data_ptr data_ptr dim_order equal get_device item numpy result_type retain_grad storage
storage_type stride tolist type untyped_storage
"""
_OTHER = frozenset(_OTHER_NAMES.split())
_ATTRIBUTES: dict[str, type] = {
    "shape": torch.Size,
    "ndim": int,
    "device": torch.device,
    "dtype": torch.dtype,
    **dict.fromkeys(("T", "mT", "H", "mH", "data", "real", "imag"), torch.Tensor),
}
_LIBRARIES = ("torch.nn.modules.", "antialiased_zoo.layers.")
# Torch's modules that return several tensors, and those that may.
_SEVERAL_MODULES = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, nn.AdaptiveLogSoftmaxWithLoss)


def value_class(
    node: fx.Node, module: Callable[[fx.Node], Any], attribute: Callable[[fx.Node], Any], given: type | None
) -> type | None:
    """The class of a node's value; None if it is not known.

    Args:
        node: The node.
        module: Returns the module that a node calls.
        attribute: Returns what a node reads from the model.
        given: Class of the model's inputs.
    """

    def of(value: Any) -> type | None:
        return value_class(value, module, attribute, given) if isinstance(value, fx.Node) else type(value)

    if node.op == "placeholder":
        return given
    if node.op == "get_attr":
        return type(attribute(node))
    if node.op == "call_module":
        called = module(node)
        if isinstance(called, nn.Identity):
            return of(node.args[0]) if node.args else None
        return torch.Tensor if _returns_tensor(called) else None
    if node.op == "call_method":
        return _of_method(node, of(node.args[0]))
    return _of_function(node, of)


def _returns_tensor(module: nn.Module) -> bool:
    """True for layers of torch and this package that return one tensor; one derived from them may return anything."""
    if isinstance(module, registered_activations()):
        return True
    plain = "forward" not in vars(module) and str(type(module).forward.__module__).startswith(_LIBRARIES)
    return plain and not isinstance(module, _SEVERAL_MODULES) and not getattr(module, "return_indices", False)


def _of_method(node: fx.Node, owner: type | None) -> type | None:
    name = str(node.target)
    if owner is None or not issubclass(owner, torch.Tensor):
        return None
    if name == "size":
        return torch.Size if len(node.args) == 1 else int
    return _returned(name, node)


def _returned(name: str, node: fx.Node) -> type | None:
    """The class of what a function or method of torch returns."""
    if name in _NUMBERS:
        return int
    several = name in _SEVERAL or name.endswith("_with_indices") or "as_tuple" in node.kwargs
    positions = name == "where" and len(node.args) + len(node.kwargs) == 1  # along each axis
    return None if several or positions or name in _OTHER or name.startswith("is_") else torch.Tensor


def _of_function(node: fx.Node, of: Callable[[Any], type | None]) -> type | None:
    first, *rest = [*node.args, *node.kwargs.values()] or [None]
    if node.target is getattr:
        owner = of(first)
        return _ATTRIBUTES.get(str(rest[0])) if owner and issubclass(owner, torch.Tensor) else None
    if str(getattr(node.target, "__module__", "")) == "_operator":
        if node.target is operator.getitem:
            return _of_item(first, rest[0], of)
        return _of_numbers([first, *rest], float if node.target is operator.truediv else int, of)
    if getattr(node.target, "__name__", "") == "read_by_hooks":
        return of(first)
    name = function_name(node.target)
    return _returned(name, node) if name and str(node.target.__module__).startswith("torch") else None


def _of_item(whole: Any, index: Any, of: Callable[[Any], type | None]) -> type | None:
    owner = of(whole)
    if owner is None:  # one of several tensors
        several = isinstance(whole, fx.Node) and function_name(whole.target) in _SEVERAL and whole.op != "call_module"
        return torch.Tensor if several and isinstance(index, int) else None
    if issubclass(owner, torch.Size):
        return torch.Size if isinstance(index, slice) else int
    return torch.Tensor if issubclass(owner, torch.Tensor) else None


def _of_numbers(operands: list[Any], number: type, of: Callable[[Any], type | None]) -> type | None:
    classes = [of(value) for value in operands]
    if any(cls is not None and issubclass(cls, torch.Tensor) for cls in classes):
        return torch.Tensor
    return number if all(cls is int for cls in classes) else None


def split_count(node: fx.Node) -> int | None:
    """The number of parts of a split into given sizes, or into a given number of parts; None for other values.

    `torch.chunk` may give fewer parts than it is asked for, as of a batch; of channels it is taken to give all.
    """
    name = function_name(node.target) if node.op != "call_module" else ""
    given = [*node.args[1:2], *(value for key, value in node.kwargs.items() if key not in ("input", "tensor", "dim"))]
    if not given or (name == "chunk" and node.kwargs.get("dim", (*node.args, 0, 0)[2]) not in (1, -1, -3)):
        return None
    if name in ("split", "split_with_sizes"):
        return len(given[0]) if isinstance(given[0], (tuple, list)) else None
    return given[0] if name in ("chunk", "tensor_split") and isinstance(given[0], int) else None
