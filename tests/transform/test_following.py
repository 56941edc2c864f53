"""Equal functions, however they are written, give equal antialiased functions."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antialiased_zoo as az

Function = Callable[[Tensor], Tensor]


class Calls(nn.Module):
    """A function as a module, which `torch.fx` looks into, or does not get through."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def gated(x: Tensor) -> Tensor:
    one, other = x.view(x.shape[0], 2, 2, *x.shape[2:]).unbind(1)  # unpacking ends the trace
    return one * torch.sigmoid(other)


def statement(x: Tensor) -> Tensor:
    F.relu(x, inplace=True)
    return x


RELU: dict[str, Function] = {
    "zeros_like": lambda x: torch.max(x, torch.zeros_like(x)),
    "where": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "mask": lambda x: x * (x > 0).to(x.dtype),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0),
    "heaviside": lambda x: x * torch.heaviside(x, torch.zeros(1)),
    "addcmul": lambda x: torch.addcmul(torch.zeros(1), x, (x > 0).float()),
    "twice": lambda x: torch.nan_to_num(F.relu(x)),
    "stack": lambda x: torch.stack([x, torch.zeros_like(x)], dim=-1).amax(-1),
    "split": lambda x: F.relu(x.view(x.shape[0], 2, 2, *x.shape[2:])).flatten(1, 2),
    "permuted": lambda x: F.relu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    "flat": lambda x: F.relu(x.flatten(2)).view(x.shape),
    "chunks": lambda x: torch.cat([F.relu(a) for a in x.chunk(2, 1)], 1),
    "statement": statement,
}
PAIRS: dict[str, tuple[Callable[[], nn.Module], Function]] = {
    "gelu": (nn.GELU, lambda x: x * torch.special.ndtr(x)),
    "gelu, tanh": (
        lambda: nn.GELU("tanh"),
        lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "mish": (nn.Mish, lambda x: x * torch.tanh(torch.logaddexp(x, torch.zeros(())))),
    "softplus": (nn.Softplus, lambda x: torch.log1p(x.exp())),
    "hardtanh": (nn.Hardtanh, lambda x: torch.min(torch.max(x, torch.tensor(-1.0)), torch.tensor(1.0))),
    "softmax": (lambda: nn.Softmax(1), lambda x: x.exp() / x.exp().sum(1, keepdim=True)),
    "relu, squared": (lambda: Calls(lambda x: F.relu(x).square()), lambda x: F.relu(x) * F.relu(x)),
    **{f"relu by {name}": (nn.ReLU, function) for name, function in RELU.items()},
}


def assert_equal_blurred(one: nn.Module, other: nn.Module, channels: int = 4, graph: bool = False) -> None:
    """Behind one strided convolution both give the same, antialiased, and the blur is behind them."""
    torch.manual_seed(0)
    down, end, x = nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(channels, 3, 1), torch.randn(2, 4, 20, 23)
    dense = one.eval()(F.conv2d(x, down.weight, down.bias, 1, 1))
    expected = end(az.blur_pool2d(dense, 4, 2))
    for module in (one, other):
        mine = az.antialias(nn.Sequential(down, module, end).eval(), stem_stride=1, graph=graph)
        torch.testing.assert_close(mine(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_nonlinearities(pair: tuple[Callable[[], nn.Module], Function]) -> None:
    assert_equal_blurred(pair[0](), Calls(pair[1]))


@pytest.mark.parametrize("function", [RELU["twice"], RELU["permuted"], RELU["zeros_like"], statement])
def test_nonlinearities_in_a_graph(function: Function) -> None:
    assert_equal_blurred(nn.ReLU(), Calls(function), graph=True)


@pytest.mark.parametrize(
    "function",
    [
        gated,
        lambda x: F.glu(x, -3),
        lambda x: x[:, :2] * x[:, 2:].sigmoid(),
        lambda x: x.narrow(1, 0, 2) * x.narrow(1, 2, 2).sigmoid(),
    ],
)
def test_gated_linear_units(function: Function) -> None:
    assert_equal_blurred(nn.GLU(1), Calls(function), channels=2)


def test_maximum_of_channels() -> None:
    grouped = Calls(lambda x: x.view(x.shape[0], 2, 2, *x.shape[2:]).amax(1))
    assert_equal_blurred(Calls(lambda x: torch.max(*x.chunk(2, 1))), grouped, channels=2)


class ByHand(nn.Module):
    """A norm over the channels, from its formula."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        return (x - mean) / torch.sqrt((x - mean).pow(2).mean(1, keepdim=True) + 1e-5)


class Permuted(nn.LayerNorm):
    """Torch's norm on channels-last maps."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Around(nn.Module):
    """The same, around it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize("norm", [ByHand(), Permuted(4), Around()])
def test_a_norm_over_channels_is_no_nonlinearity(norm: nn.Module) -> None:
    assert_equal_blurred(nn.Sequential(Permuted(4), nn.GELU()), nn.Sequential(norm, nn.GELU()))


class Affine(nn.Module):
    """A scale and a shift of channels, as converted checkpoints have them."""

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([0.5, -2.0, 1.5, 0.0]))
        self.shift = nn.Parameter(torch.tensor([0.1, 0.2, 0.3, 0.4]))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.scale, self.shift)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, scale, shift: x * scale[None, :, None, None] + shift[:, None, None],
        lambda x, scale, shift: torch.addcmul(shift.view(1, -1, 1, 1), x, scale.view(1, -1, 1, 1)),
        lambda x, scale, shift: (x.permute(0, 2, 3, 1) * scale + shift).permute(0, 3, 1, 2),
        lambda x, scale, shift: x * scale.view(1, -1, 1, 1).expand_as(x) + shift.reshape(-1, *[1] * (x.dim() - 2)),
    ],
)
def test_affine_maps_of_channels(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    norm = Affine(lambda x, scale, shift: F.batch_norm(x, torch.zeros(4), torch.ones(4), scale, shift, eps=0.0))
    assert_equal_blurred(nn.Sequential(norm, nn.ReLU()), nn.Sequential(Affine(function), nn.ReLU()))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.relu(x - x.mean((2, 3), keepdim=True)),
        lambda x: F.relu(x.roll(1, 2)),
        lambda x: F.relu(x.flip(3)),
        lambda x: F.relu(F.avg_pool2d(x, 3, 1, 1)),
        lambda x: F.relu(x.transpose(2, 3)),
        lambda x: F.relu(x * torch.linspace(0, 1, x.shape[-1])),
        lambda x: F.relu(x + x.cumsum(2)),
    ],
)
def test_what_does_not_keep_places_is_not_waited_for(function: Function) -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), Calls(function), nn.Conv2d(4, 3, 1))
    assert str(az.plan(net, stem_stride=1).sites[0].placement) == "after 0"
    x = torch.randn(1, 4, 20, 24)
    torch.testing.assert_close(az.antialias(net, 1, stem_stride=1)(x), net(x))


def test_trying_out_draws_no_numbers_of_the_process_and_runs_on_the_meta_device() -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Conv2d(4, 4, 3, 2), Calls(lambda x: F.dropout(F.relu(x), 0.5)), nn.Conv2d(4, 3, 1))

    with torch.device("meta"):
        assert str(az.plan(net(), stem_stride=1).sites[0].placement) == "after 1"
    on_cpu, state = net(), torch.get_rng_state()
    assert str(az.plan(on_cpu, stem_stride=1).sites[0].placement) == "after 1"
    assert torch.equal(torch.get_rng_state(), state)


def test_a_branch_with_a_nonlinearity_of_its_own_has_a_blur_of_its_own() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU())
            self.two, self.after = nn.Conv2d(4, 4, 1, 2), nn.SiLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.after(self.one(x) + self.two(x))

    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), Sum(), nn.Conv2d(4, 3, 1)), torch.randn(1, 3, 33, 34)
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))
    torch.testing.assert_close(az.antialias(net, 1, graph=True)(x), net(x))


def test_branches_share_one_blur_in_a_graph_too() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 1, 2)

        def forward(self, x: Tensor) -> Tensor:
            return F.max_pool2d(F.relu(self.one(x) + self.two(x)), 2)

    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), Sum(), nn.Conv2d(4, 3, 1)), torch.randn(1, 3, 33, 34)
    mine = az.antialias(net, graph=True)
    assert mine(x).shape == net(x).shape
    torch.testing.assert_close(az.antialias(net, 1, graph=True)(x), net(x))


@pytest.mark.parametrize(
    ("equation", "place"), [("nchw,c->nchw", "after 3"), ("...,...->...", "after 3"), ("nchw,dc->ndhw", "after 1")]
)
def test_an_einsum_that_only_multiplies_is_followed(equation: str, place: str) -> None:
    factors = torch.rand((4, 4) if "d" in equation else (4,) if "c" in equation else (1, 4, 1, 1))
    scale = Calls(lambda x: torch.einsum(equation, x, factors))
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), scale, nn.ReLU())
    assert str(az.plan(net).sites[0].placement) == place


def test_a_reason_names_what_does_not_keep_places() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), Calls(lambda x: torch.roll(x, 1, 2)), nn.ReLU())
    assert "cannot be followed through roll" in az.plan(net).sites[0].reason


def test_a_batch_norm_with_a_forward_of_its_own_is_tried_out() -> None:
    class Centred(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) - x.mean((2, 3), keepdim=True)

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), Centred(4), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()
    x = torch.randn(1, 3, 33, 34)
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))


def test_a_users_hook_is_said_not_to_be_read() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2))
    net[0].register_forward_hook(lambda module, args, output: output[..., ::2, ::2])
    assert any(note.startswith("0: calls the hook") for note in az.plan(net).notes)
    assert az.plan(az.antialias(nn.Sequential(*net[1:]))).notes == ()


def test_a_pool_is_called_by_keyword_as_before() -> None:
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(input=self.conv(input=x))

    net, x = Keyword(), torch.randn(1, 3, 20, 20)
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))
