"""Equal functions, however they are written, give equal antialiased functions."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torchvision.ops import FrozenBatchNorm2d
from transforming import Calls

import antialiased_zoo as az

Function = Callable[[Tensor], Tensor]


def gated(x: Tensor) -> Tensor:
    one, other = x.view(x.shape[0], 2, 2, *x.shape[2:]).unbind(1)  # unpacking ends the trace
    return one * torch.sigmoid(other)


def listed(x: Tensor) -> Tensor:
    parts = list(x.chunk(2, dim=1))  # as in YOLOv8's blocks
    parts += map(F.relu, x.tensor_split(len(parts), 1))
    return torch.cat(parts[2:], 1)


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
    "listed chunks": listed,
    "scaled": lambda x: F.relu(3 * x) / 3,
    "statement": statement,
}
GLU: dict[str, Function] = {
    "unbind": gated,
    "function": lambda x: F.glu(x, -3),
    "slices": lambda x: x[:, :2] * x[:, 2:].sigmoid(),
    "narrow": lambda x: x.narrow(1, 0, 2) * x.narrow(1, 2, 2).sigmoid(),
    "chunk": lambda x: x.chunk(2, 1)[0] * torch.sigmoid(x.chunk(2, 1)[1]),
}
PAIRS: dict[str, tuple[Callable[[], nn.Module], Function]] = {
    "gelu": (nn.GELU, lambda x: x * torch.special.ndtr(x)),
    "gelu, tanh": (
        lambda: nn.GELU("tanh"),
        lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "h-swish": (nn.Hardswish, lambda x: x * F.relu6(x + 3) / 6),
    "silu": (nn.SiLU, lambda x: x * torch.sigmoid(x)),
    "silu by mul": (nn.SiLU, lambda x: torch.mul(torch.sigmoid(x), x)),
    "mish": (nn.Mish, lambda x: x * torch.tanh(F.softplus(x))),
    "mish by logaddexp": (nn.Mish, lambda x: x * torch.tanh(torch.logaddexp(x, torch.zeros(())))),
    "leaky by maximum": (lambda: nn.LeakyReLU(0.1), lambda x: torch.maximum(x, 0.1 * x)),
    "leaky by where": (lambda: nn.LeakyReLU(0.1), lambda x: torch.where(x > 0, x, 0.1 * x)),
    "softplus": (nn.Softplus, lambda x: torch.log1p(x.exp())),
    "hardtanh": (nn.Hardtanh, lambda x: torch.min(torch.max(x, torch.tensor(-1.0)), torch.tensor(1.0))),
    "softmax": (lambda: nn.Softmax(1), lambda x: x.exp() / x.exp().sum(1, keepdim=True)),
    "relu, squared": (lambda: Calls(lambda x: F.relu(x).square()), lambda x: F.relu(x) * F.relu(x)),
    "maximum of channels": (
        lambda: Calls(lambda x: torch.max(*x.chunk(2, 1))),
        lambda x: x.view(x.shape[0], 2, 2, *x.shape[2:]).amax(1),
    ),
    **{f"glu by {name}": (lambda: nn.GLU(1), function) for name, function in GLU.items()},
    **{f"relu by {name}": (nn.ReLU, function) for name, function in RELU.items()},
}
# They unpack a shape, which ends the trace, so that there is no graph.
UNTRACED = ("maximum of channels", "glu by unbind", "relu by split")


def assert_equal_blurred(one: nn.Module, other: nn.Module, graph: bool = False) -> None:
    """Behind one strided convolution both give the same, antialiased, and the blur is behind them."""
    torch.manual_seed(0)
    down, x = nn.Conv2d(4, 4, 3, 2, 1), torch.randn(2, 4, 20, 23)
    dense = one.eval()(F.conv2d(x, down.weight, down.bias, 1, 1))
    end = nn.Conv2d(dense.shape[1], 3, 1)
    expected = end(az.blur_pool2d(dense, 4, 2))
    pool = [Calls(lambda x: F.max_pool2d(x, 2))] if graph else []  # a function, which asks for a graph
    expected = az.max_blur_pool2d(expected, 2) if graph else expected
    for module in (one, other):
        mine = az.antialias(nn.Sequential(down, module, end, *pool).eval(), stem_stride=1, graph=graph)
        assert isinstance(mine, fx.GraphModule) == graph
        torch.testing.assert_close(mine(x), expected)


@pytest.mark.parametrize("name", PAIRS)
def test_nonlinearities(name: str) -> None:
    make, function = PAIRS[name]
    assert_equal_blurred(make(), Calls(function))


@pytest.mark.parametrize("name", [name for name in PAIRS if name not in UNTRACED])
def test_nonlinearities_in_a_graph(name: str) -> None:
    make, function = PAIRS[name]
    assert_equal_blurred(make(), Calls(function), graph=True)


class Named(nn.Module):
    """Has a child whose name is that of a function that splits, and is called like it."""

    class Three(nn.Module):
        def forward(self, x: Tensor, sizes: list[int]) -> list[Tensor]:
            if x.sum() > 1e9:
                return []
            return [x, x + 1, x + 2]

    def __init__(self) -> None:
        super().__init__()
        self.split = self.Three()

    def forward(self, x: Tensor) -> Tensor:
        return sum((F.max_pool2d(part, 2) for part in self.split(x, [1, 2])), torch.zeros(()))


class Scaled(nn.Module):
    """Needs an argument whose default is None."""

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        return F.max_pool2d(x * scale.abs(), 2)


def test_a_graph_runs_what_the_model_runs() -> None:
    pieces = Calls(lambda x: F.max_pool2d(torch.cat([part.relu() for part in x.chunk(4)]), 2))  # of the batch
    nets = nn.Sequential(nn.Conv2d(3, 8, 1), pieces), nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), Named())
    for net in nets:
        for batch in 1, 4, 6:
            x = torch.randn(batch, 3, 8, 8)
            torch.testing.assert_close(az.antialias(net, 1, graph=True)(x), net(x))
    x, scale = torch.randn(1, 3, 8, 8), torch.tensor(-2.0)
    same = az.antialias(Scaled(), 1, graph=True)
    assert isinstance(same, torch.fx.GraphModule)
    torch.testing.assert_close(same(x, scale), Scaled()(x, scale))


class Snake(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.full((1, 4, 1, 1), 0.7))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.sin(self.a * x).pow(2) / self.a


def test_a_nonlinearity_with_a_parameter_for_each_channel() -> None:
    down, snake, end = nn.Conv2d(4, 4, 3, 2, 1), Snake(), nn.Conv2d(4, 3, 1)
    x = torch.randn(1, 4, 20, 23)
    expected = end(az.blur_pool2d(snake(F.conv2d(x, down.weight, down.bias, 1, 1)), 4, 2))
    torch.testing.assert_close(az.antialias(nn.Sequential(down, snake, end), stem_stride=1)(x), expected)


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


class Frozen(nn.Module):
    """A batch norm by function, from buffers."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        for name, tensor in norm.state_dict().items():
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)


def test_a_frozen_norm_is_a_norm() -> None:
    norm, frozen = nn.BatchNorm2d(4).eval(), FrozenBatchNorm2d(4)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(tensor, 0.5, 1.5)
    frozen.load_state_dict(norm.state_dict(), strict=False)
    down, end, x = nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 3, 1), torch.randn(1, 4, 20, 23)
    dense = F.relu(norm(F.conv2d(x, down.weight, down.bias, 1, 1)))
    for each in (norm, frozen, Frozen(norm)):
        mine = az.antialias(nn.Sequential(down, each, nn.ReLU(), end).eval(), stem_stride=1)
        torch.testing.assert_close(mine(x), end(az.blur_pool2d(dense, 4, 2)))
