"""Each private name of torch answers yes where it must; without it, its own test fails by name."""

from __future__ import annotations

import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode

import antialiased_zoo
from antialiased_zoo.layers import torch_internals


def test_is_jit_tracing() -> None:
    seen = []

    def function(x: torch.Tensor) -> torch.Tensor:
        seen.append(torch_internals.is_jit_tracing())
        return x + 1

    torch.jit.trace(function, torch.ones(1))
    assert any(seen)
    assert not torch_internals.is_jit_tracing()


def test_limits_of_sizes() -> None:
    for size in (2, torch.tensor(2)):
        assert torch_internals.at_least(3, size) == 3 == torch_internals.at_least(1, size) + 1
        assert torch_internals.at_most(1, size) == 1 == torch_internals.at_most(3, size) - 1


def test_is_dispatch_mode_active() -> None:
    assert not torch_internals.is_dispatch_mode_active()
    with FakeTensorMode():
        assert torch_internals.is_dispatch_mode_active()


def test_is_function_mode_active() -> None:
    class Recorder(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            return func(*args, **(kwargs or {}))

    with torch.device("cpu"):
        assert not torch_internals.is_function_mode_active()
        with Recorder():
            assert torch_internals.is_function_mode_active()


def test_without_dispatch_modes() -> None:
    with FakeTensorMode(), torch_internals.without_dispatch_modes():
        assert type(torch.ones(1)) is torch.Tensor


def test_is_functorch_active() -> None:
    seen = []
    torch.func.vmap(lambda x: seen.append(torch_internals.is_functorch_active()) or x)(torch.ones(2))
    assert seen == [True]
    assert not torch_internals.is_functorch_active()


def test_is_saving_through_hooks() -> None:
    with torch.autograd.graph.save_on_cpu():
        assert torch_internals.is_saving_through_hooks()
    assert not torch_internals.is_saving_through_hooks()
    with torch.inference_mode():
        assert not torch_internals.is_saving_through_hooks()


def test_reorder_conv2d_weight_and_conv2d_reordered() -> None:
    x, weight, bias = torch.randn(1, 8, 9, 9), torch.randn(16, 8, 3, 3), torch.randn(16)
    settings = (1, 1), (2, 2), (1, 1), 1
    reordered = torch_internals.reorder_conv2d_weight(weight, *settings, x.shape)
    ours = torch_internals.conv2d_reordered(x, reordered, bias, *settings)
    torch.testing.assert_close(ours, F.conv2d(x, weight, bias, 2, 1))


def test_is_compiled_wrapper() -> None:
    module = torch.nn.ReLU()
    compiled = torch.compile(module, backend="eager")
    assert torch_internals.is_compiled_wrapper(compiled)
    assert compiled.get_submodule(torch_internals.COMPILED) is module
    assert not torch_internals.is_compiled_wrapper(module)


def test_is_operator() -> None:
    assert torch_internals.is_operator(torch.ops.aten.relu.default)
    assert not torch_internals.is_operator(torch.relu)


def test_storage_key() -> None:
    x, other = torch.empty(4, device="meta"), torch.empty(4, device="meta")
    assert torch_internals.storage_key(x) == torch_internals.storage_key(x[1:])
    assert torch_internals.storage_key(x) != torch_internals.storage_key(other)


def test_forget_compiled_code() -> None:
    compilations = []

    def backend(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        compilations.append(graph)
        return graph

    compiled = torch.compile(torch.nn.ReLU(), backend=backend)
    for _ in range(2):
        compiled(torch.ones(1))
    assert len(compilations) == 1
    torch_internals.forget_compiled_code()
    compiled(torch.ones(1))
    assert len(compilations) == 2


def test_functions_are_replaced_while_a_model_is_traced() -> None:
    namespace = {"relu": F.relu}
    with torch_internals.trace_patcher() as patcher:
        torch_internals.patch_wrapped_functions(patcher)
        torch_internals.wrap_functions(patcher, namespace, {id(F.relu)})
        assert namespace["relu"] is not F.relu
    assert namespace["relu"] is F.relu


def test_one_modules_call_is_set_and_its_own_is_left() -> None:
    double = torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.Hardtanh(0, 1)))
    for module in (torch.nn.Hardtanh(0, 1), double):
        own, hooked = torch_internals.own_call(module), []
        module.register_forward_hook(lambda *_, hooked=hooked: hooked.append(1))
        torch_internals.set_call(module, lambda x, own=own: own(x) + 1)
        assert module(torch.tensor(3.0)) == 2
        assert hooked == [1]
        assert torch.nn.Hardtanh(0, 1)(torch.tensor(3.0)) == 1


def test_dispatch_mode() -> None:
    seen = []

    class Notes(torch_internals.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append((func.overloadpacket.__name__, torch.Tag.nondeterministic_seeded in func.tags))
            return func(*args, **(kwargs or {}))

    with Notes():
        torch.zeros(1).bernoulli_(0.5, generator=torch.Generator())
    assert seen == [("zeros", False), ("bernoulli_", True)]


def test_private_names_stand_in_one_file() -> None:
    package = Path(antialiased_zoo.__file__).parent
    private = re.compile(
        r"torch\.fx import _|torch\.(_C|_dynamo|fx\._|_functorch|_subclasses|ops\.\w+\._|ops\.aten\.mkldnn)"
        r"|torch\.utils\._(?!pytree)|torch\._ops|_cdata|_modules\[\"_orig_mod"
    )
    found = {path.name for path in package.rglob("*.py") if private.search(path.read_text())}
    assert found <= {"torch_internals.py"}, found
