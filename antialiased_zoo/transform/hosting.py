"""Attaches a blur to a module, its host, as a child that a hook calls."""

# torch.jit.script reads the hooks: no `from __future__ import annotations`, and no type comments.
# mypy: disable-error-code="no-untyped-def,no-any-return"
import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Tuple  # noqa: UP035  # TorchScript knows only this one

from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]  # public, but not listed

from ..errors import LostBlurError
from .plans import Where

# Hooks, not wrapper modules: the host keeps its class, its name and its parameters' names.


def blur_before(self, input: Tuple[Tensor]) -> Tuple[Tensor]:  # noqa: UP006
    """Forward pre-hook of a host: blur its first argument."""
    if is_scripting():
        return (self.blur_before(input[0]),)
    else:  # with an else, TorchScript compiles only the first branch
        return _with_first_blurred(self, input)


def blur_after(self, input: Tuple[Tensor], output: Tensor) -> Tensor:  # noqa: UP006
    """Forward hook of a host: blur its output."""
    if is_scripting():
        return self.blur_after(output)
    else:
        return _child(self, "blur_after")(output)


def _scripted_within(self, input: Tuple[Tensor], output: Tensor) -> Tensor:  # noqa: UP006
    return self.blur_within(input[0])


# TorchScript compiles the wrapped function: its hooks take no keyword arguments.
@functools.wraps(_scripted_within, assigned=(), updated=())
def blur_within(self, input, *kwargs_and_output):
    """Forward hook of a pool that stays in the model: its replacement computes the output."""
    *kwargs, _ = kwargs_and_output
    return _child(self, "blur_within")(*input, **(kwargs[0] if kwargs else {}))


HOOKS: dict[str, Any] = {"before": blur_before, "after": blur_after, "within": blur_within}


def attach(host: nn.Module, where: Where, blur: nn.Module) -> None:
    """Attach a blur to a module; a second blur on the same side follows the first."""
    name = f"blur_{where}"
    if name in host._modules:  # for the op before this one, say
        host.add_module(name, nn.Sequential(host.get_submodule(name), blur))
        return
    host.add_module(name, blur)
    hook_once(host, where)
    if type(host).__module__.startswith("torch."):
        # `torch.fx` treats torch's own modules as single ops, and tools that fuse ops of its graph
        # would drop the blur. With another module name the host is traced into, and the blur
        # becomes an op of the graph.
        host.__module__ = __name__


def mark_hosts(model: nn.Module) -> None:
    """Let torch's compiler tell a model from the same model without blurs.

    It does not compare hooks, so where hosts keep their strides it would take code that was compiled without the blurs.
    It does compare the types of the dictionaries that it reads, and in older versions their lengths.
    """
    for parent in model.modules():
        hosts = [child for child in parent.children() if any(f"blur_{where}" in child._modules for where in HOOKS)]
        if hosts:
            vars(parent)["_modules"] = OrderedDict(parent._modules)
        for host in hosts:
            if host._parameters:
                host.register_parameter("has_blur", None)


def hook_once(host: nn.Module, where: Where) -> None:
    """Make a host call its blur exactly once: other tools may copy, move or drop a hook."""
    hooks, hook = hooks_of(host, where), HOOKS[where]
    for key in [key for key, value in hooks.items() if value is hook][1:]:
        del hooks[key]
    if hook in hooks.values():
        return
    if where == "before":
        host.register_forward_pre_hook(hook)
    else:  # other hooks get the blurred output, so this one comes first
        host.register_forward_hook(hook, prepend=True, with_kwargs=where == "within")


def hooks_of(host: nn.Module, where: Where) -> Any:
    """The hooks of a host among which that of a blur is."""
    return host._forward_pre_hooks if where == "before" else host._forward_hooks


def _child(host: nn.Module, name: str) -> Callable[..., Any]:
    blur = host._modules.get(name)
    if blur is None:
        raise LostBlurError(
            f"{type(host).__name__} has the hook {name} of another module, but not its blur: another tool has replaced "
            "modules of this antialiased model. Call antialias_(model) again, or use the tool before antialiasing"
        )
    return blur


def _with_first_blurred(host: nn.Module, args: Tuple[Any, ...]) -> Tuple[Any, ...]:  # noqa: UP006
    return (_child(host, "blur_before")(args[0]), *args[1:])
