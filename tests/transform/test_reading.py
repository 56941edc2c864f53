"""What the plan reads: every op that strides, by what it computes, whatever it is called and wherever it stands."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from types import MethodType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from strided_ops import strided_ops
from torch import Tensor, nn, zeros
from torchvision.ops import DeformConv2d, deform_conv2d
from transforming import Calls, assert_same_places

import antialiased_zoo as az
from antialiased_zoo.transform import Op
from antialiased_zoo.transform.tracing import Tracer

STRIDED: dict[str, Callable[[Tensor], Tensor]] = {
    "indices": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "powers": lambda x: F.lp_pool2d(x, 2.0, 2),
    "fractional": lambda x: F.fractional_max_pool2d(x, 2, output_ratio=(0.5, 0.5)),
    "index_select": lambda x: torch.index_select(x, 2, torch.arange(0, 16, 2)),
    "method": lambda x: x.index_select(3, torch.arange(0, 16, 2)),
    "windows": lambda x: x.unfold(2, 2, 2),
    "split": lambda x: x.view(1, 4, 8, 2, 16)[:, :, :, 0],
    "split at the end": lambda x: x.reshape(1, 4, 16, 8, 2)[..., 0],
    "aten": lambda x: torch.ops.aten.avg_pool2d(x, [2, 2], [2, 2]),
    "aten overload": lambda x: torch.ops.aten.max_pool2d.default(x, [2, 2], [2, 2]),
    "depthwise": lambda x: F.conv2d(x, torch.ones(4, 1, 3, 3), None, 2, 1, 1, 4),
    "aten convolution": lambda x: torch.ops.aten.conv2d.default(x, torch.ones(4, 1, 3, 3), None, [2], [1], [1], 4),
    "mean of a view": lambda x: x.view(1, 4, 8, 2, 8, 2).mean((3, 5)),
    "maximum of a view": lambda x: x.reshape(1, 4, 8, 2, 16).max(3).values,
    "maximum of a permuted view": lambda x: x.view(1, 4, 8, 2, 8, 2).permute(0, 1, 2, 4, 3, 5).amax((4, 5)),
    "maximum of a transposed view": lambda x: x.view(1, 4, 8, 2, 8, 2).transpose(3, -2).amax((-2, -1)),
    "one of a view": lambda x: x.view(1, 4, 16, 8, 2).select(-1, 0),
    "all of a view": lambda x: x.view(1, 4, 16, 8, 2).unbind(-1)[0],
    "narrowed view": lambda x: x.view(1, 4, 16, 8, 2).narrow(-1, 0, 1),
    "slice of a view": lambda x: x.view(1, 4, 16, 8, 2)[..., 1:],
    "chunk of a view": lambda x: x.view(1, 4, 16, 8, 2).chunk(2, dim=-1)[0],
    "split of a view": lambda x: torch.split(x.unflatten(2, (8, 2)), 1, 3)[1],
    "computed step": lambda x: x[:, :, :: x.shape[1] // 2],
    "strides": lambda x: x.as_strided((1, 4, 8, 8), (1024, 256, 32, 2)),
    "deformed": lambda x: deform_conv2d(x, torch.zeros(1, 18, 8, 8), torch.ones(4, 4, 3, 3), stride=2, padding=1),
    "keywords": lambda x: F.max_pool2d(input=x, kernel_size=2),
    "computed stride": lambda x: F.conv2d(x, torch.ones(4, 4, 3, 3), stride=x.shape[1] // 2),
    "computed patches": lambda x: F.unfold(x, 2, stride=x.shape[1] // 2),
    "stride of NumPy": lambda x: F.max_pool2d(x, 2, np.int64(2)),
}


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("function", STRIDED.values(), ids=STRIDED)
def test_every_strided_function_is_in_the_plan_and_seen_by_the_recorder(
    function: Callable[[Tensor], Tensor], graph: bool
) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Calls(function))
    _, ran = strided_ops(net, torch.randn(1, 3, 16, 16))
    assert {op.kind for op in ran} == {site.kind for site in az.plan(net, graph=graph).sites} != set()


class Mixed(nn.Module):
    """One convolution for each part of the channels."""

    def __init__(self, split: Callable[[Tensor], Sequence[Tensor]]) -> None:
        super().__init__()
        self.split, self.act = split, nn.ReLU()
        self.convs = nn.ModuleList(nn.Conv2d(2, 2, size, 2, size // 2, groups=2) for size in (3, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.act(torch.cat([conv(part) for conv, part in zip(self.convs, self.split(x), strict=True)], dim=1))


@pytest.mark.parametrize(
    "split",
    [
        lambda x: torch.split(x, [2, 2], 1),
        lambda x: x.split((2, 2), dim=1),
        lambda x: torch.split(x, split_size_or_sections=[2, 2], dim=1),
        lambda x: x.split_with_sizes([2, 2], 1),
    ],
)
def test_code_may_go_over_the_parts_of_a_split(split: Callable[[Tensor], Sequence[Tensor]]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Mixed(split))
    plan = az.plan(net)
    assert (len(plan.treated), plan.notes) == (2, ())
    assert_same_places(net, torch.randn(1, 3, 16, 17))


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("make", ["empty", "ones", "rand", "randn", "zeros"])
def test_tensors_are_made_with_sizes_of_the_input(make: str, graph: bool) -> None:
    def add(x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        made = getattr(torch, make)(b, c, h, w, device=x.device).nan_to_num(0, 0, 0)
        return x + 0 * made * zeros(b, c, h, w) + torch.ones(x.shape)

    net = nn.Sequential(nn.Conv2d(3, 4, 1), Calls(add), nn.Conv2d(4, 4, 3, 2, 1), Calls(add), nn.ReLU())
    plan = az.plan(net, graph=graph)
    assert (len(plan.treated), plan.notes) == (1, ())
    assert_same_places(net, torch.randn(1, 3, 16, 17), graph=graph)
    assert getattr(torch, make) is getattr(torch._C._VariableFunctions, make)  # torch's own again


def test_strides_may_be_numpys_and_changed_afterwards() -> None:
    two = np.int64(2)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, (two, two), 1), nn.ReLU())
    net.extend([nn.MaxPool2d(two, two), nn.AvgPool2d(two), nn.Conv2d(4, 4, 1), nn.ReLU()])
    net[5].stride = net[5].padding = 2  # torch takes one number for all axes, and a list
    net[1].dilation = [1, 1]
    assert {site.name: site.stride for site in az.plan(net).treated} == dict.fromkeys("1345", (2, 2))
    assert_same_places(net[:4], torch.randn(1, 3, 31, 32))
    assert_same_places(net[5:], torch.randn(1, 4, 31, 32))


def test_a_deformable_convolution_is_in_the_plan() -> None:
    class Deforms(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = DeformConv2d(4, 4, 3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x, torch.zeros(1, 18, 7, 7))

    (site,) = az.plan(nn.Sequential(nn.Conv2d(3, 4, 3), Deforms())).sites
    assert (site.name, site.kind, site.placement) == ("1.conv:deform_conv2d", "conv", None)


def test_a_pool_of_powers_is_blurred_after_its_dense_evaluation() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.LPPool2d(2, 3, 2))
    x = torch.randn(1, 3, 20, 23)
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))
    dense = F.lp_pool2d(net[:2](x), 2.0, 3, 1)
    torch.testing.assert_close(az.antialias(net)(x), az.blur_pool2d(dense, 4, 2))


class Pool(nn.MaxPool1d):
    """Its name does not say how many axes it has."""


def test_a_pools_axes_are_those_of_its_class_not_of_its_name() -> None:
    net, x = nn.Sequential(nn.Conv1d(3, 4, 3), Pool(2)), torch.randn(1, 3, 20)
    assert type(az.antialias(net)[1]).__name__ == "MaxBlurPool1d"
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: nn.Sequential(nn.DataParallel(net))])
def test_wrappers_that_spread_a_batch_are_looked_through(wrap: Callable[[nn.Module], nn.Module]) -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, 2), nn.ReLU())
    assert len(az.plan(wrap(body)).treated) == 2


def test_wrappers_that_compile_are_looked_through_and_scripts_are_noted() -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2))
    assert len(az.plan(nn.Sequential(torch.compile(body, backend="eager"), nn.MaxPool2d(2))).treated) == 2
    scripted = nn.Sequential(torch.jit.script(body), nn.MaxPool2d(2))
    assert any(note.startswith("0: ") and "TorchScript" in note for note in az.plan(scripted).notes)


@pytest.mark.parametrize("placement", ["after_nonlinearity", "before_conv"])
def test_inputs_given_by_keyword(placement: str) -> None:
    class Keywords(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.shortcut = nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 1, 2)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.down(input=x)) + self.shortcut(input=x)

    net, x = Keywords(), torch.randn(1, 4, 20, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # before_conv can treat neither
        mine = az.antialias(net, 1, placement=placement, stem_stride=1)
    torch.testing.assert_close(mine(x), net(x))


def test_a_pool_is_called_by_keyword_as_before() -> None:
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(input=self.conv(input=x))

    net, x = Keyword(), torch.randn(1, 3, 20, 20)
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))


def test_a_users_hook_is_said_not_to_be_read() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2))
    net[0].register_forward_hook(lambda module, args, output: output[..., ::2, ::2])
    assert any(note.startswith("0: calls the hook") for note in az.plan(net).notes)
    assert az.plan(az.antialias(nn.Sequential(*net[1:]))).notes == ()


class Doubles(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def _pooled(self: Doubles, x: Tensor) -> Tensor:
    return F.max_pool2d(self.body(x), 2)


def test_a_forward_that_was_replaced_on_one_object_is_read() -> None:
    net, x = Doubles(), torch.randn(1, 3, 40, 40)
    net.forward = MethodType(_pooled, net)  # type: ignore[method-assign]
    assert [site.kind for site in az.plan(net).sites] == ["conv", "maxpool"]
    assert az.antialias(net)(x).shape == net(x).shape
    net.forward = functools.partial(_pooled, net)  # type: ignore[method-assign]
    plan = az.plan(net)
    assert [site.name for site in plan.sites] == ["body.1"]
    assert "its forward was replaced" in plan.notes[0]


def test_a_model_is_read_twice_only_where_its_own_code_may_ask_for_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(nn.Sequential):
        pass

    read = []
    trace = Tracer.trace_model
    monkeypatch.setattr(Tracer, "trace_model", lambda *args: (read.append(1), trace(*args))[1])
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)]
    hooked = nn.Sequential(*layers)
    hooked.register_forward_pre_hook(lambda *_: None)
    for net, times in ((nn.Sequential(*layers), 1), (Own(*layers), 2), (hooked, 2)):
        read.clear()
        az.plan(net)
        assert len(read) == times


# Rows of one's own


class Every(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[..., ::2, ::2] if x.sum() < 1e9 else x


class Hard(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0, 1) if x.sum() < 1e9 else x


def test_a_strided_op_and_an_activation_can_be_registered() -> None:
    az.register_strided_op(Every, lambda _: Op("every", (2, 2)), lambda _, blur: blur(stride=(2, 2)))
    az.register_activation(Hard)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2, 1), Hard(), Every())
    assert [str(site.placement) for site in az.plan(net).sites] == ["after 2", "instead 3"]
    x = torch.randn(1, 3, 33, 30)
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))
    y = az.blur_pool2d(F.conv2d(net[0](x), net[1].weight, net[1].bias, 1, 1).clamp(0, 1), 4, 2)
    torch.testing.assert_close(az.antialias(net)(x), az.blur_pool2d(y, 4, 2))
