"""The private names of torch that this package calls, because nothing public does the same.

`tests/layers/test_torch_internals.py` has a test for each, so that a torch without one fails there by name.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import _symbolic_trace
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
from torch.utils._python_dispatch import _disable_current_modes


def is_jit_tracing() -> bool:
    """True inside `torch.jit.trace` and the exporters built on it."""
    return torch._C._get_tracing_state() is not None


def at_least(least: int, size: int) -> int:
    """`torch.sym_max`, also of sizes that TorchScript traces: these are tensors, which it refuses."""
    return cast(int, size.clamp(min=least) if isinstance(size, Tensor) else torch.sym_max(least, size))


def at_most(most: int, size: int) -> int:
    """`torch.sym_min`, also of sizes that TorchScript traces."""
    return cast(int, size.clamp(max=most) if isinstance(size, Tensor) else torch.sym_min(most, size))


def is_dispatch_mode_active() -> bool:
    """True inside a `TorchDispatchMode`: fake tensors, a FLOP counter, a recorder of operators."""
    return torch._C._len_torch_dispatch_stack() > 0


def is_function_mode_active() -> bool:
    """True inside a `TorchFunctionMode`, such as a recorder of calls, other than the mode of a default device."""
    modes: Any = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    return any(not isinstance(mode, DeviceContext) for mode in modes)


def without_dispatch_modes() -> AbstractContextManager[Any]:
    """A context in which no `TorchDispatchMode` is active, so that new tensors are real even among fake ones."""
    return cast(AbstractContextManager[Any], _disable_current_modes())


def is_functorch_active() -> bool:
    """True inside a `torch.func` transform such as ``vmap`` or ``grad``."""
    return torch._C._are_functorch_transforms_active()


def is_saving_through_hooks() -> bool:
    """True inside `torch.autograd.graph.saved_tensors_hooks`, as in activation checkpointing."""
    with torch.enable_grad():
        saves: Any = torch.ones((), requires_grad=True).exp().grad_fn
    if saves is None:  # in inference mode nothing is saved
        return False
    try:
        saves._raw_saved_result.register_hooks(lambda tensor: tensor, lambda tensor: tensor)
    except RuntimeError:  # it has hooks already
        return True
    return False


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


#: The name under which `torch.compile`'s wrapper holds its module.
COMPILED = "_orig_mod"


def is_compiled_wrapper(module: nn.Module) -> bool:
    """True for what `torch.compile` returns for a module; it holds the module as `COMPILED`."""
    compiled = sys.modules.get("torch._dynamo.eval_frame")  # what is not imported has made no wrapper
    return compiled is not None and isinstance(module, compiled.OptimizedModule)


def forget_compiled_code() -> None:
    """Let compiled models be compiled anew at their next call, for what their guards do not notice."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def is_operator(target: object) -> bool:
    """True for an overload of one of torch's operators, such as ``torch.ops.aten.relu.default``."""
    return isinstance(target, torch._ops.OpOverload)


def storage_key(tensor: Tensor) -> int:
    """An identity of a tensor's storage, on the meta device too, where storages have no address."""
    return cast(int, tensor.untyped_storage()._cdata)


def set_call(module: nn.Module, call: Callable[..., Any]) -> None:
    """Let one module's call be a function's, without a class of its own."""
    vars(module)["_compiled_call_impl"] = call
    if isinstance(module, torch.fx.GraphModule):  # its class calls this, and prints where it fails
        vars(module)["_wrapped_call"] = lambda _, *args, **kwargs: call(*args, **kwargs)


def own_call(module: nn.Module) -> Callable[..., Any]:
    """A module's call as it is without `set_call`: its hooks and its forward."""
    return functools.partial(nn.Module._call_impl, module)


def trace_patcher() -> Any:
    """A context in which functions can be replaced while a model is traced."""
    return _symbolic_trace._Patcher()


def patch_wrapped_functions(patcher: Any) -> None:
    """Replace what `torch.fx.wrap` marked, as `torch.fx.Tracer.trace` does."""
    _symbolic_trace._patch_wrapped_functions(patcher)


def wrap_functions(patcher: Any, namespace: dict[str, Any], ids: set[int]) -> None:
    """Replace a tracer's ``autowrap_functions`` in one module's namespace."""
    _symbolic_trace._autowrap_check(patcher, namespace, ids)
