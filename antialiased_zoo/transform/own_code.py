"""What a module's own code and hooks may do, judged by the names in them, where the code cannot be traced."""

from __future__ import annotations

import dis
import sys
from collections.abc import Collection, Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn

from .links import BLUR_HOOKS
from .reached_code import codes_of, hook_functions, is_self, reached_functions, steps_of

_ITERATING = frozenset(["_modules", "children", "modules", "named_children", "named_modules"])
_ASKING = _ITERATING | {"__class__", "getattr", "isinstance", "type"}
_FUSE = ("deploy", "fuse", "merge", "reparam")


def hooks(module: nn.Module | None) -> Iterator[Any]:
    """Yield a module's hooks, except torch's and this package's."""
    if module is None or isinstance(module, torch.jit.ScriptModule):
        return
    yield from filter(is_users, (*module._forward_pre_hooks.values(), *module._forward_hooks.values()))


def has_hooks_inside(module: nn.Module) -> bool:
    """True if hooks run when only the module's forward is called: those of the modules in it."""
    return any(any(hooks(inner)) for inner in module.modules() if inner is not module)


def is_users(hook: Any) -> bool:
    """True for a hook that is neither torch's nor this package's."""
    return hook not in BLUR_HOOKS and not str(getattr(hook, "__module__", "")).startswith("torch.")


def may_read_classes(hook: Any) -> bool:
    """True if a hook's code, or a function that it names, may ask for the class or the attributes of modules."""
    return any(not _ASKING.isdisjoint(code.co_names) for code in _codes(hook_functions(hook)))


def hook_may_read_strides(hook: Any) -> bool:
    """True if a hook's code, or a function that it names, may read a module's stride."""
    return any(map(_reads_stride, _codes(hook_functions(hook))))


def can_fuse(module: nn.Module) -> bool:
    """True if a module has a method that fuses its branches and norms into one convolution (reparameterisation)."""
    return any(word in name for name in dir(type(module)) for word in _FUSE)


def has_attention(module: nn.Module) -> bool:
    """True if a module seems to compute attention: torch's own, or code with a softmax and a matrix product."""
    codes = list(_codes(reached_functions(module)))
    names = {name for code in codes for name in code.co_names}
    if any(isinstance(child, nn.Softmax) for child in module.children()):
        names.add("softmax")
    if any(_multiplies(step) for code in codes if "softmax" in names for step in steps_of(code)):
        names.add("matmul")
    return isinstance(module, nn.MultiheadAttention) or are_attentions(names)


def are_attentions(names: Collection[str]) -> bool:
    """True if these names of functions include those of attention."""
    products = {"matmul", "bmm", "einsum", "baddbmm", "__matmul__"}
    return "scaled_dot_product_attention" in names or ("softmax" in names and not products.isdisjoint(names))


def _multiplies(step: dis.Instruction) -> bool:
    """True for the operator ``@``."""
    return step.argrepr == "@" or step.opname == "BINARY_MATRIX_MULTIPLY"


def may_run_its_children(module: nn.Module) -> bool:
    """True if the code of a module that cannot be traced may iterate over its children."""
    return any(not _ITERATING.isdisjoint(code.co_names) for code in _codes(reached_functions(module)))


def may_read_strides(module: nn.Module) -> bool:
    """True if a module's forward, or a function that it can reach, may read another module's stride."""
    return any(map(_reads_stride, _codes(reached_functions(module))))


def reads_mode(module: nn.Module) -> bool:
    """True if a module's forward, or a function that it can reach, reads whether a module is in training."""
    return any("training" in code.co_names for code in _codes(reached_functions(module)))


def _reads_stride(code: CodeType) -> bool:
    """True for ``other.stride`` and for the name in a string, but not for ``self.stride`` and ``tensor.stride()``."""
    if "stride" not in code.co_names and "stride" not in code.co_consts:
        return False
    steps = steps_of(code)
    reads = (i for i, step in enumerate(steps) if step.argval == "stride" and _is_load(step))
    return any(not is_self(steps[i - 1]) for i in reads)


def _is_load(step: dis.Instruction) -> bool:
    """True if a step loads an attribute, not to call it, or a constant."""
    calls = step.opname == "LOAD_ATTR" and sys.version_info >= (3, 12) and (step.arg or 0) & 1
    return step.opname in ("LOAD_ATTR", "LOAD_CONST") and not calls


def _codes(functions: Iterable[FunctionType]) -> Iterator[CodeType]:
    return (code for function in functions for code in codes_of(function))
