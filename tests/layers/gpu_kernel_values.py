"""The values of the GPU kernel, on a GPU, or on the CPU in Triton's interpreter (TRITON_INTERPRET=1).

`test_gpu_kernel.py` runs this file in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import antialiased_zoo as az
from antialiased_zoo.layers.filters import Blur
from antialiased_zoo.layers.gpu import launch, operators, supports

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MODES = {"reflect": "reflect", "replicate": "edge", "zero": "constant"}
OWN = (1, -2, 5, 0)
# Filter, stride, padding, more padding, size: each value of one meets most of the others.
CASES = [
    (2, 1, "reflect", 0, (5, 8)),
    (2, 2, "zero", 1, (9, 4)),
    (2, (1, 3), "replicate", 0, (6, 7)),
    (2, 2, "reflect", 6, (34, 2)),
    (3, 2, "reflect", 0, (18, 5)),
    (3, 4, "replicate", 2, (3, 9)),
    (3, 1, "zero", 0, (4, 1)),
    (4, 2, "reflect", 0, (7, 14)),
    (4, 2, "replicate", 1, (12, 3)),
    (4, 3, "zero", 0, (8, 8)),
    (4, 2, "reflect", 3, (2, 1)),
    (5, 2, "zero", 0, (3, 10)),
    (5, 4, "reflect", 1, (9, 2)),
    (6, 2, "reflect", 0, (1, 6)),
    (6, 3, "replicate", 0, (7, 3)),
    (7, 2, "reflect", 0, (11, 4)),
    (7, (4, 1), "zero", 2, (5, 2)),
    (OWN, 2, "reflect", 0, (26, 7)),
    (OWN, 3, "zero", 1, (5, 6)),
]


# The interpreter takes a second and more for each: the other cases are slow tests.
QUICK = [CASES[index] for index in (1, 13, 16)]


def slow(values: list[Any], *quick: int) -> list[Any]:
    """The values as parameters, all but the quick ones marked as slow."""
    return [pytest.param(value, marks=[] if index in quick else pytest.mark.slow) for index, value in enumerate(values)]


@pytest.fixture(autouse=True)
def _use_the_kernel() -> Iterator[None]:
    az.use_gpu_kernels(True)
    with torch.device(DEVICE):
        yield
    az.use_gpu_kernels(False)


def matrix(blur: Blur, axis: int, size: int, pad_type: str) -> np.ndarray:
    """An axis of the blur as a matrix, by the definition: pad, weighted sum, subsample."""
    padded = np.pad(np.eye(size), (blur.padding[axis], (0, 0)), mode=MODES[pad_type])
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(blur.taps[axis]), axis=0)
    return (windows @ np.array(blur.taps[axis]))[:: blur.stride[axis]]


def by_definition(x: Tensor, grad: Tensor | None, blur: Blur, pad_type: str) -> tuple[Tensor, Tensor]:
    """The blur, and its gradient, in float64."""
    rows, columns = (torch.from_numpy(matrix(blur, axis, x.shape[2 + axis], pad_type)).to(x.device) for axis in (0, 1))
    y = rows @ x.detach().double() @ columns.T
    return y, rows.T @ (torch.ones_like(y) if grad is None else grad.double()) @ columns


def check(x: Tensor, filt_size: object, stride: object, pad_type: str, pad_off: int = 0) -> None:
    """Forward and backward against the definition, to the rounding of the dtype."""
    blur = Blur.make(filt_size, stride, pad_type, pad_off, 2)
    assert supports(x, blur)
    x = x.detach().requires_grad_()
    y = az.blur_pool2d(x, filt_size, stride, pad_type, pad_off)
    grad = torch.randn(y.shape).to(y.dtype)
    (found,) = torch.autograd.grad(y, x, grad)
    wanted, wanted_gradient = by_definition(x, grad, blur, pad_type)
    tolerance = {"rtol": max(torch.finfo(x.dtype).eps, 1e-6 if x.dtype == torch.float32 else 0), "atol": 4e-6}
    if x.dtype == torch.float64:
        tolerance = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(y.double(), wanted, **tolerance)
    torch.testing.assert_close(found.double(), wanted_gradient, **tolerance)
    assert y.dtype == found.dtype == x.dtype
    for result in (y, found):
        assert result.is_contiguous(memory_format=_layout(x))


def _layout(x: Tensor) -> torch.memory_format:
    last = x.stride(1) == 1 and x.shape[1] > 1 and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


@pytest.mark.parametrize("case", slow(CASES, *map(CASES.index, QUICK)))
def test_equals_the_definition(case: tuple[object, object, str, int, tuple[int, int]]) -> None:
    filt_size, stride, pad_type, pad_off, size = case
    layout = (torch.contiguous_format, torch.channels_last)[CASES.index(case) % 2]
    check(
        torch.randn(1, 2, *size, dtype=torch.float64).contiguous(memory_format=layout),
        filt_size, stride, pad_type, pad_off,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", slow([torch.float16, torch.bfloat16, torch.float32]))
@pytest.mark.parametrize("layout", slow([torch.contiguous_format, torch.channels_last], 1))
def test_accumulates_in_float32(dtype: torch.dtype, layout: torch.memory_format) -> None:
    check(torch.randn(2, 3, 9, 6).to(dtype).contiguous(memory_format=layout), 4, 2, "reflect")


@pytest.mark.parametrize("layout", slow([torch.contiguous_format, torch.channels_last]))
def test_programs_meet(layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in launch.TILES:
        columns = 1 if key[0] == "channels" else 2
        monkeypatch.setitem(launch.TILES, key, launch.Tile(2, columns, 1, 2 - columns))
    monkeypatch.setattr(launch, "_MOST_IMAGES", 2)
    launch._plan.cache_clear()
    check(torch.randn(3, 6, 11, 13).contiguous(memory_format=layout), 3, 2, "reflect")
    launch._plan.cache_clear()


# Data type, filter, stride, padding, more padding, size: of rows in vectors of 16, 8 and 4 bytes.
VECTORS = [
    (torch.bfloat16, 4, 2, "reflect", 0, (5, 32)),
    (torch.float32, 4, 2, "reflect", 0, (3, 4)),
    (torch.float16, 7, 2, "replicate", 0, (2, 12)),
    (torch.float32, 3, 1, "zero", 0, (3, 8)),
    (torch.float32, 5, 4, "reflect", 0, (6, 16)),
    (torch.bfloat16, 2, 2, "zero", 0, (4, 8)),
    (torch.bfloat16, 3, 2, "reflect", 0, (4, 6)),
    (torch.float64, OWN, 2, "reflect", 3, (4, 6)),
    (torch.bfloat16, 4, 3, "reflect", 0, (4, 12)),  # in no vectors
]


@pytest.mark.parametrize("case", slow(VECTORS, 0))
def test_vectors_of_columns(case: tuple[torch.dtype, object, int, str, int, tuple[int, int]]) -> None:
    dtype, filt_size, stride, pad_type, pad_off, size = case
    check(torch.randn(2, 2, *size).to(dtype), filt_size, stride, pad_type, pad_off)


@pytest.mark.parametrize("channels", slow([8, 12, 40, 136], 2))
def test_vectors_of_channels(channels: int) -> None:
    x = torch.randn(1, channels, 4, 5).bfloat16()
    check(x.contiguous(memory_format=torch.channels_last), 4, 2, "reflect")


@pytest.mark.parametrize(
    "view",
    slow(
        [
            lambda x: x[:, :, 1:, 2:],
            lambda x: x[:, ::2],
            lambda x: x.transpose(2, 3),
            lambda x: x.contiguous(memory_format=torch.channels_last)[:, :, :, 1:],
            lambda x: x[:1].expand(2, -1, -1, -1),
            lambda x: x.repeat(1, 1, 1, 4)[..., 2:18],  # of even rows, at an address that is not
            lambda x: x.repeat(1, 4, 1, 1).contiguous(memory_format=torch.channels_last)[:, 3:11],
        ],
        3,
    ),
)
def test_views(view: Callable[[Tensor], Tensor]) -> None:
    check(view(torch.randn(2, 4, 5, 6)), 4, 2, "reflect")


def test_expanded_gradient() -> None:
    x = torch.randn(1, 2, 6, 6, requires_grad=True)
    az.blur_pool2d(x).sum().backward()
    wanted = by_definition(x, None, Blur.make(4, 2, "reflect", 0, 2), "reflect")[1]
    torch.testing.assert_close(x.grad.double(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 0, 8, 8)])
def test_empty_batches(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, requires_grad=True)
    y = az.blur_pool2d(x)
    y.sum().backward()
    assert y.shape == (*shape[:2], 4, 4)
    assert x.grad.shape == shape


@pytest.mark.parametrize("size", slow([(8, 4), (24, 4)], 0))  # all rows near a border, or not
def test_infinity_stays_where_its_taps_reach(size: tuple[int, int]) -> None:
    x = torch.zeros(1, 1, *size, requires_grad=True)
    y = az.blur_pool2d(x, 3)
    grad = torch.zeros_like(y)
    grad[..., y.shape[2] // 2, 1] = torch.inf
    (found,) = torch.autograd.grad(y, x, grad)
    wanted = by_definition(x, (grad > 0).float(), Blur.make(3, 2, "reflect", 0, 2), "reflect")[1] > 0
    assert torch.equal(found == torch.inf, wanted)
    assert not found.isnan().any()


def test_second_derivatives() -> None:
    """Of the blur B's squared norm: 2 B'B, whatever the input."""
    blur, direction = Blur.make(3, 2, "reflect", 0, 2), torch.randn(1, 1, 3, 2, dtype=torch.float64)
    x = torch.randn_like(direction, requires_grad=True)
    (gradient,) = torch.autograd.grad(az.blur_pool2d(x, 3).square().sum(), x, create_graph=True)
    (found,) = torch.autograd.grad((gradient * direction).sum(), x)
    blurred, _ = by_definition(direction, None, blur, "reflect")
    torch.testing.assert_close(found, 2 * by_definition(direction, blurred, blur, "reflect")[1])


@pytest.mark.slow
def test_gradients_by_finite_differences() -> None:
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(az.blur_pool2d, x)
    assert torch.autograd.gradgradcheck(az.blur_pool2d, x)


@pytest.mark.slow
def test_operators_are_registered_correctly() -> None:
    taps, rest = [0.25, 0.5, 0.25], ([2, 2], [1, 1, 1, 1], "reflect")
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(1, 2, 4, 5).contiguous(memory_format=layout).requires_grad_()
        torch.library.opcheck(operators.blur_pool2d, (x, taps, taps, *rest))
        grad = torch.randn(1, 2, 2, 3, requires_grad=True)
        is_last = layout == torch.channels_last
        torch.library.opcheck(operators.blur_pool2d_transposed, (grad, [4, 5], is_last, taps, taps, *rest))


def test_transforms_take_the_formula() -> None:
    x = torch.randn(2, 1, 1, 3, 4)
    wanted = torch.stack([az.blur_pool2d(each) for each in x])
    torch.testing.assert_close(torch.vmap(az.blur_pool2d)(x), wanted)
    gradient = torch.func.grad(lambda x: az.blur_pool2d(x).square().sum())(x[0])
    leaf = x[0].clone().requires_grad_()
    az.blur_pool2d(leaf).square().sum().backward()
    torch.testing.assert_close(gradient, leaf.grad)
    _, tangent = torch.func.jvp(az.blur_pool2d, (x[0],), (x[1],))
    torch.testing.assert_close(tangent, wanted[1])
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x[0], x[1])
        tangent = torch.autograd.forward_ad.unpack_dual(az.blur_pool2d(dual)).tangent
    torch.testing.assert_close(tangent, wanted[1])


def test_autocast_leaves_the_dtype() -> None:
    with torch.autocast(DEVICE, torch.bfloat16):
        assert az.blur_pool2d(torch.randn(1, 1, 4, 4)).dtype == torch.float32
        assert az.blur_pool2d(torch.randn(1, 1, 4, 4).bfloat16()).dtype == torch.bfloat16


@pytest.mark.slow
def test_compiles_and_exports_as_one_operator() -> None:
    layer, x = az.Downsample(2), torch.randn(1, 2, 6, 4, requires_grad=True)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for size in ((6, 4), (8, 5)):  # the second with symbolic sizes
        x = torch.randn(1, 2, *size, requires_grad=True)
        (gradient,) = torch.autograd.grad(compiled(x).square().sum(), x)
        (wanted,) = torch.autograd.grad(layer(x).square().sum(), x)
        torch.testing.assert_close(gradient, wanted)
    program = torch.export.export(layer, (x.detach(),))
    assert [node.target for node in program.graph.nodes if node.op == "call_function"] == [
        torch.ops.antialiased_zoo.blur_pool2d.default
    ]
    torch.testing.assert_close(program.module()(x.detach()), layer(x).detach())


def test_what_the_kernel_leaves_to_torch() -> None:
    blur = Blur.make(4, 2, "reflect", 0, 2)
    x = torch.randn(1, 1, 4, 4)
    assert supports(x, blur)
    assert not supports(x.to("meta"), blur)
    assert not supports(x.expand(2**30, 1, 4, 4)[None, 0].movedim(1, 2)[..., 0], blur)  # too far apart for 32 bits
    assert not supports(x, Blur.make(1, 2, "reflect", 0, 2))
    assert not supports(x, Blur.make([1] * 17, 2, "reflect", 0, 2))
    assert not supports(x[0], Blur.make(4, 2, "reflect", 0, 1))
    assert az.use_gpu_kernels(False)
    assert not supports(x, blur)
