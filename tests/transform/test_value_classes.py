"""The class that is told of a value in a trace is that of the value itself, for every method of tensors."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from antialiased_zoo.transform.tracing import Tracer
from antialiased_zoo.transform.value_classes import value_class

X = torch.rand(2, 3, 8, 8)
ARGUMENTS: list[tuple[Any, ...]] = [(), (1,), (2, 1), ([1, 2], 1), ([2], 1), (X,)]
METHODS = [name for name in dir(Tensor) if not name.startswith("_")]


def told(call: Any) -> type | None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return call(x)

    tracer = Tracer()
    graph = tracer.trace_model(Net(), None, {})
    node = next(iter(reversed(graph.nodes))).args[0]
    return value_class(node, lambda _: None, tracer._attribute, Tensor) if isinstance(node, fx.Node) else None


@pytest.mark.filterwarnings("ignore")
def test_every_method_of_a_tensor_gives_what_is_told_of_it() -> None:
    tried = 0
    for name in METHODS:
        for arguments in ARGUMENTS:

            def call(x: Tensor, name: str = name, arguments: tuple[Any, ...] = arguments) -> Any:
                return getattr(x, name)(*arguments)

            try:
                value = call(copy.deepcopy(X))
            except Exception:  # takes other arguments
                continue
            found = told(call)
            tried += found is not None
            assert found is None or type(value) is found, (name, arguments)
    assert tried > 300
