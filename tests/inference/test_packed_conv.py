"""Convolutions that keep a rearranged weight against `nn.Conv2d` with the same one."""

from __future__ import annotations

import copy
import io
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from antialiased_zoo.inference.packed_conv import PackedConv2d, pack_

KINDS: dict[str, dict[str, Any]] = {
    "plain": {"kernel_size": 3},
    "1x1": {"kernel_size": 1},
    "no bias": {"kernel_size": 3, "bias": False},
    "strided": {"kernel_size": (3, 5), "stride": (2, 1), "padding": (1, 2)},
    "dilated": {"kernel_size": 3, "dilation": 2, "padding": 2},
    "grouped": {"kernel_size": 3, "groups": 2},
    "depthwise": {"kernel_size": 3, "groups": 16, "padding": 1},
}
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def pair(**settings: Any) -> tuple[PackedConv2d, nn.Conv2d]:
    """A packed convolution, and a plain one with the same tensors."""
    plain = nn.Conv2d(16, 32, **settings).requires_grad_(False)
    packed = pack_(copy.deepcopy(plain))
    assert isinstance(packed, PackedConv2d)
    return packed, plain


def uses_packed(conv: PackedConv2d) -> bool:
    return conv._packed is not None


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_values_are_those_of_a_plain_convolution(kind: str, layout: torch.memory_format) -> None:
    packed, plain = pair(**KINDS[kind])
    for size in ((2, 16, 14, 15), (1, 16, 28, 28), (2, 16, 14, 15)):
        x = torch.randn(size).contiguous(memory_format=layout)
        torch.testing.assert_close(packed(x), plain(x), atol=1e-5, rtol=1e-5)
    assert uses_packed(packed)


def test_the_weight_is_rearranged_once_for_a_size() -> None:
    packed, _ = pair(kernel_size=3)
    x = torch.randn(2, 16, 14, 14)
    packed(x)
    first = packed._packed
    packed(x + 1)
    assert packed._packed is first


def load(conv: nn.Conv2d, weight: Tensor) -> None:
    conv.load_state_dict({"weight": weight, "bias": conv.bias})


def copy_in_place(conv: nn.Conv2d, weight: Tensor) -> None:
    with torch.no_grad():
        conv.weight.copy_(weight)


def another_parameter(conv: nn.Conv2d, weight: Tensor) -> None:
    conv.weight = nn.Parameter(weight, requires_grad=False)


def other_data(conv: nn.Conv2d, weight: Tensor) -> None:
    conv.weight.data = weight


def other_data_twice(conv: nn.Conv2d, weight: Tensor) -> None:
    """The second may lie where the first weight was."""
    conv.weight.data = torch.zeros_like(weight)
    conv.weight.data = weight.clone()


def view_of_the_data(conv: nn.Conv2d, _: Tensor) -> None:
    conv.weight.data = conv.weight.data.transpose(2, 3)


@pytest.mark.parametrize(
    "change", [load, copy_in_place, another_parameter, other_data, other_data_twice, view_of_the_data]
)
def test_a_changed_weight_counts_at_once(change: Any) -> None:
    packed, plain = pair(kernel_size=3)
    x = torch.randn(2, 16, 14, 14)
    packed(x)
    weight = torch.randn_like(plain.weight)
    change(packed, weight.clone())
    change(plain, weight.clone())
    torch.testing.assert_close(packed(x), plain(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "depthwise", "1x1"])
def test_a_changed_stride_counts_at_once(kind: str) -> None:
    packed, plain = pair(**KINDS[kind])
    x = torch.randn(2, 16, 14, 14)
    packed(x)
    packed.stride = plain.stride = (2, 2)  # as `antialias_` does to a convolution
    torch.testing.assert_close(packed(x), plain(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_dtype_is_convolved_plainly(dtype: torch.dtype) -> None:
    packed, plain = pair(kernel_size=3)
    x = torch.randn(2, 16, 14, 14)
    packed(x)
    torch.testing.assert_close(packed.to(dtype)(x.to(dtype)), plain.to(dtype)(x.to(dtype)))
    torch.testing.assert_close(packed.float()(x), plain.float()(x), atol=1e-5, rtol=1e-5)


def test_mixed_dtypes_fail_as_in_torch() -> None:
    packed, _ = pair(kernel_size=3)
    with pytest.raises(RuntimeError, match="type"):
        packed.double()(torch.randn(1, 16, 8, 8))


@pytest.mark.parametrize("of", ["input", "weight", "bias"])
def test_gradients_are_those_of_a_plain_convolution(of: str) -> None:
    packed, plain = pair(kernel_size=3)
    x = torch.randn(2, 16, 9, 9)
    grads = []
    for conv in (packed, plain):
        leaf = x.clone() if of == "input" else getattr(conv, of)
        leaf.requires_grad_(True)
        conv(leaf if of == "input" else x).square().sum().backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads)


def test_autocast_gives_what_it_gives_for_a_plain_convolution() -> None:
    packed, plain = pair(kernel_size=3)
    x = torch.randn(2, 16, 9, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(packed(x), plain(x))


@pytest.mark.parametrize("size", [(16, 9, 9), (0, 16, 9, 9)])
def test_an_unbatched_and_an_empty_batch_go_through(size: tuple[int, ...]) -> None:
    packed, plain = pair(kernel_size=3)
    x = torch.randn(size)
    assert torch.equal(packed(x), plain(x))


@pytest.mark.parametrize("size", [(1, 8, 9, 9), (1, 16, 2, 9)])
def test_a_wrong_number_of_channels_and_too_small_a_map_are_refused_as_in_torch(size: tuple[int, ...]) -> None:
    packed, plain = pair(kernel_size=3)
    packed(torch.randn(1, 16, 9, 9))
    messages = []
    for conv in (packed, plain):
        with pytest.raises(RuntimeError) as error:
            conv(torch.randn(size))
        messages.append(str(error.value).partition("\n")[0])
    assert messages[0] == messages[1]


def test_inference_tensors_are_convolved() -> None:
    with torch.inference_mode():
        packed, _ = pair(kernel_size=3)
        x = torch.randn(1, 16, 9, 9)
        before = packed(x)
        packed.weight.mul_(2)
        packed.bias.mul_(2)
        torch.testing.assert_close(packed(x), 2 * before)


def test_copies_and_files_hold_the_weight_once() -> None:
    packed, plain = pair(kernel_size=3)
    x = torch.randn(2, 16, 9, 9)
    packed(x)
    file = io.BytesIO()
    torch.save(packed, file)
    file.seek(0)
    for again in (copy.deepcopy(packed), torch.load(file, weights_only=False)):
        assert not uses_packed(again)
        torch.testing.assert_close(again(x), plain(x), atol=1e-5, rtol=1e-5)
    assert list(packed.state_dict()) == ["weight", "bias"]


def test_tracers_and_compilers_see_a_plain_convolution() -> None:
    packed, plain = pair(kernel_size=3)
    x = torch.randn(2, 16, 9, 9)
    traced = fx.symbolic_trace(nn.Sequential(packed))
    assert torch.equal(traced(x), plain(x))
    exported = torch.export.export(nn.Sequential(packed), (x,))
    assert torch.equal(exported.module()(x), plain(x))
    compiled = torch.compile(packed, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), plain(x))
    assert torch.equal(torch.func.vmap(packed)(x), plain(x))
    assert not uses_packed(packed)


def test_threads_with_maps_of_different_sizes() -> None:
    packed, plain = pair(kernel_size=3)
    wrong: list[int] = []

    def work(size: int) -> None:
        x = torch.randn(1, 16, size, size)
        expected = plain(x)
        for _ in range(50):
            if not torch.allclose(packed(x), expected, atol=1e-5):
                wrong.append(size)

    threads = [threading.Thread(target=work, args=(size,)) for size in (8, 14, 28)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("settings", [{"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}])
def test_other_paddings_stay_as_they_are(settings: dict[str, Any]) -> None:
    assert type(pack_(nn.Conv2d(16, 32, 3, **settings))) is nn.Conv2d


def test_the_kind_of_a_subclass_stays() -> None:
    class Own(nn.Conv2d):
        pass

    assert type(pack_(nn.Sequential(Own(3, 3, 3)))[0]) is Own
