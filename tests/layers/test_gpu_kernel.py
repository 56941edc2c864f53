"""The GPU kernel without a GPU: its values in Triton's interpreter, its compiled code, and the switch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from forked import run_code
from torch._subclasses import FakeTensorMode

import antialiased_zoo as az
from antialiased_zoo.layers import gpu
from antialiased_zoo.layers.filters import Blur
from antialiased_zoo.layers.gpu import switch

triton = pytest.importorskip("triton", minversion="3.4")
_HERE = Path(__file__).parent


@pytest.mark.parametrize("part", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_values_in_the_interpreter(part: str) -> None:
    """In a process of its own, as Triton reads the variable when it is imported."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "--timeout", "0"]
    done = subprocess.run(
        [*command, str(_HERE / "gpu_kernel_values.py"), "-m", part],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize(
    ("channels_last", "transposed", "reads", "writes"),
    [
        (True, False, {"v4.b32"}, {"v4.b32"}),
        (True, True, {"v4.b32"}, {"v4.b32"}),
        (False, False, {"v4.b32", "b16"}, {"v2.b32"}),  # the columns around a vector are read one by one
        (False, True, {"v2.b32", "b16"}, {"v4.b32"}),
    ],
)
def test_compiles_for_a_gpu(channels_last: bool, transposed: bool, reads: set[str], writes: set[str]) -> None:
    """The interpreter takes more than the compiler does. Maps in half precision move in vectors of up to 16 bytes."""
    pytest.importorskip("triton.backends.nvidia")
    code = compiled_for_a_gpu((2, 64, 20, 112), channels_last, transposed)
    assert set(re.findall(r"ld\.global\.(\S+)", code)) == reads
    assert set(re.findall(r"st\.global\.(\S+)", code)) == writes


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 9, 11), (2, 3, 8, 2)])
def test_compiles_for_maps_without_vectors(shape: tuple[int, ...], transposed: bool) -> None:
    pytest.importorskip("triton.backends.nvidia")
    assert "st.global" in compiled_for_a_gpu(shape, False, transposed)


def compiled_for_a_gpu(shape: tuple[int, ...], channels_last: bool, transposed: bool) -> str:
    """The code for an H100 of the default blur of a map in bfloat16."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from antialiased_zoo.layers.gpu import kernel, launch

    blur = Blur.make(4, 2, "reflect", 0, 2)
    target = launch.Target(shape[2:], channels_last) if transposed else None
    source = torch.empty(*shape[:2], *(blur.out_size(shape[2:]) if transposed else shape[2:]), device="meta")
    source = source.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    device = torch.device("cuda", 0)
    plan = launch._plan(source.shape, source.stride(), torch.bfloat16, device, True, blur, target)
    assert plan.launch is not None
    values = [None, *plan.launch.of_x, None, *plan.launch.rest]
    arguments = dict(zip(kernel.blur_kernel.arg_names, values, strict=True))
    is_one = {name for name, value in arguments.items() if value == 1} - set(kernel._SIZES)
    constants = {n: value for n, value in arguments.items() if n in is_one or not isinstance(value, int | None)}
    constants |= {name: arguments[name] for name in ("ROWS", "COLUMNS", "ITEMS", "AHEAD")}
    types = {name: "*bf16" if name in "xy" else "constexpr" if name in constants else "i32" for name in arguments}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(types) if name in "xy"}
    source = ASTSource(kernel.blur_kernel, types, constants, aligned)
    options = {"num_warps": plan.launch.warps}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]


def test_a_cpu_never_uses_it(tmp_path: Path) -> None:
    code = (
        "import antialiased_zoo as az, sys, torch; az.Downsample(3)(torch.ones(1, 3, 8, 8));"
        "print('antialiased_zoo.layers.gpu.kernel' in sys.modules, az.use_gpu_kernels(False))"
    )
    assert run_code(code, tmp_path).stdout.split() == ["False", "None"]
    assert not gpu.supports(torch.ones(1, 1, 4, 4), Blur.make(4, 2, "reflect", 0, 2))


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "_choice", None)


def test_the_previous_choice_is_returned() -> None:
    assert az.use_gpu_kernels(False) is None
    assert az.use_gpu_kernels(True) is False
    assert az.use_gpu_kernels(None) is True
    assert az.use_gpu_kernels(None) is None


class Mapped(torch.Tensor):
    """A map that says it is on a GPU."""

    is_cuda = True


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.device]]:
    """A GPU on which the kernel works; a list of the devices on which it was tried."""
    probes: list[torch.device] = []

    def probe(device: torch.device) -> float:
        probes.append(device)
        return float(torch.ones(1).sum().item())  # fails on fake tensors

    monkeypatch.setattr(switch, "_probe", probe)
    switch._try_kernel.cache_clear()
    yield probes
    switch._try_kernel.cache_clear()


def test_the_kernel_is_tried_once_whatever_surrounds_the_first_map(probed: list[torch.device]) -> None:
    x, blur = torch.ones(1, 1, 4, 4).as_subclass(Mapped), Blur.make(4, 2, "reflect", 0, 2)
    with FakeTensorMode():
        assert switch._works(x.device)
    assert gpu.supports(x, blur)
    assert probed == [torch.device("cpu")]


def test_the_compiler_tries_the_kernel_too(probed: list[torch.device]) -> None:
    compiled = torch.compile(lambda x: x + 1 if switch._works(x.device) else x, backend="eager", fullgraph=True)
    assert compiled(torch.zeros(2)).tolist() == [1, 1]
    assert probed == [torch.device("cpu")]


def test_the_compiler_does_not_take_itself_for_an_export() -> None:
    """torch 2.11 answers that every compiled program is exported, if its compiler traces the question."""
    ask = torch.compile(lambda x: x + 1 if switch._is_exported() else x, backend="eager", fullgraph=True)
    assert ask(torch.zeros(2)).tolist() == [0, 0]


@pytest.mark.parametrize("strict", [False, True])
def test_exported_programs_need_no_kernel(strict: bool, probed: list[torch.device]) -> None:
    class Asks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if switch._is_exported() else x

    exported = torch.export.export(Asks(), (torch.zeros(2),), strict=strict).module()
    traced = torch.jit.trace(Asks(), torch.zeros(2), check_trace=False)
    assert exported(torch.zeros(2)).tolist() == traced(torch.zeros(2)).tolist() == [1, 1]
    assert not switch._is_exported()
    assert not probed


def test_a_kernel_that_fails_is_reported_once_and_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a GPU, or without the C compiler that Triton needs."""

    def fail(*_: object) -> None:
        raise RuntimeError("Failed to find C compiler.")

    x, blur = torch.ones(1, 1, 4, 4).as_subclass(Mapped), Blur.make(4, 2, "reflect", 0, 2)
    monkeypatch.setattr(switch, "_probe", fail)
    switch._try_kernel.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="torch computes the blur, more slowly: RuntimeError: Failed to find C"):
            assert not gpu.supports(x, blur)
        assert not gpu.supports(x, blur)
        az.use_gpu_kernels(False)
        assert not gpu.supports(x, blur)
    finally:
        switch._try_kernel.cache_clear()


def test_a_machine_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    switch._kernel.cache_clear()
    for name in ("operators", "functions", "launch", "kernel"):
        monkeypatch.delitem(sys.modules, f"antialiased_zoo.layers.gpu.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ImportError, match="need Triton"):
        az.use_gpu_kernels(True)
    assert az.use_gpu_kernels(None) is None
