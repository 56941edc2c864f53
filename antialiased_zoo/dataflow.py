"""What a model computes, as `torch.fx` sees it: the graph, and who calls which module and returns what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from torch import fx, nn

from .layers import Downsample, MaxBlurPool2d


class _Tracer(fx.Tracer):
    """Also notes how often each module is called, what it returns, and inside which module each op runs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, int] = defaultdict(int)
        self.returns: dict[fx.Node, list[str]] = defaultdict(list)
        self.owner: dict[fx.Node, str] = {}
        self._inside = [""]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or isinstance(m, (Downsample, MaxBlurPool2d))

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        path = self.path_of_module(m)
        self.calls[path] += 1
        self._inside.append(path)
        result = super().call_module(m, forward, args, kwargs)
        self._inside.pop()
        if isinstance(result, fx.Proxy):
            self.returns[result.node].append(path)
        return result

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        self.owner[node] = self._inside[-1]
        return node


class Dataflow:
    """The traced graph of a model, with the few questions that `plan` asks of it.

    Args:
        model: A module that `torch.fx` can trace; it is not run and may be on the meta device.

    Raises:
        torch.fx.proxy.TraceError: (or what the model's own code raises on a proxy) if it cannot be traced.
    """

    def __init__(self, model: nn.Module) -> None:
        tracer = _Tracer()
        self.graph = tracer.trace(model)
        self._tracer = tracer
        self._modules = dict(model.named_modules())

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that ``node`` calls, or None."""
        return self._modules[str(node.target)] if node.op == "call_module" else None

    def called_once(self, path: str) -> bool:
        """True if the model calls the module at ``path`` at just one place."""
        return self._tracer.calls[path] == 1

    def modules_returning(self, node: fx.Node) -> Iterator[str]:
        """Modules called once that hand on the value of ``node`` and do not use it themselves, innermost first.

        Containers are left out: a module added to one would be called as one of its members.
        """
        for path in self._tracer.returns[node]:
            inside = any(f"{self._tracer.owner[user]}.".startswith(f"{path}.") for user in node.users)
            container = isinstance(self._modules[path], (nn.Sequential, nn.ModuleList, nn.ModuleDict))
            if self.called_once(path) and not inside and not container:
                yield path
