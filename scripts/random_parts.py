"""Random small networks, made of parts that a function chooses.

They share modules, register them under several names, use gates, branches and sums, change values in place, call
functions, wrap parts, and run their children in turn. Every map has four channels, so that all parts fit together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

Choose = Callable[[Sequence[Any]], Any]
CHANNELS = 4


def _in_place(x: Tensor) -> Tensor:
    x.clamp_(min=0)
    return x


def _maxout(x: Tensor) -> Tensor:
    x = torch.cat([x, -0.5 * x], 1).view(x.shape[0], 2, CHANNELS, *x.shape[2:])
    return x.amax(1)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "in place": _in_place,
    "leaky": lambda x: torch.where(x > 0, x, 0.1 * x),
    "swish": lambda x: x * torch.sigmoid(1.5 * x),
    "h-swish": lambda x: x * F.relu6(x + 3, inplace=True) / 6,
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "masked": lambda x: x.masked_fill(x < 0, 0),
    "permuted": lambda x: F.gelu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    "glu": lambda x: F.glu(torch.cat([x, x.flip(1)], 1), 1),
    "maxout": _maxout,
    "scaled": lambda x: 0.5 * x + 0.1,
    "channel norm": lambda x: (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-5).sqrt(),
    "gate": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "max pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "average pool": lambda x: F.avg_pool2d(x, 2, ceil_mode=True),
    "slice": lambda x: x[..., ::2, 1::2] if x.shape[-1] is not None else x,
    "indices": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
}


class Function(nn.Module):
    """A function by its name, so that it can be pickled."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return FUNCTIONS[self.name](x)


class Parts(nn.Module):
    """Runs its modules by name, in turn, through a list, or depending on values."""

    def __init__(self, modules: Sequence[nn.Module], way: str) -> None:
        super().__init__()
        self.way = way
        for index, module in enumerate(modules):
            self.add_module(f"part{index}", module)
        self.count = len(modules)
        self.listed = list(modules)

    def forward(self, x: Tensor) -> Tensor:
        """Run them."""
        if self.way == "untraceable" and x.sum() > 1e9:
            return x
        if self.way == "children":
            for child in self.children():
                x = child(x)
        elif self.way == "list":
            for child in self.listed:
                x = child(x)
        else:
            for index in range(self.count):
                x = getattr(self, f"part{index}")(x)
        return x


class Sum(nn.Module):
    """The sum of two paths, or of one path and its input."""

    def __init__(self, one: nn.Module, other: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.one, self.other, self.after = one, other, after

    def forward(self, x: Tensor) -> Tensor:
        """Add them."""
        return self.after(self.one(x) + self.other(x))


class Down(nn.Module):
    """A strided convolution as a function call, with the module's own weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CHANNELS, CHANNELS, 3, 3) / 6)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return F.conv2d(input=x, weight=self.weight, stride=2, padding=1)


class Net(nn.Module):
    """A stem, the parts, and second names for some of them."""

    def __init__(self, parts: nn.Module, aliases: Sequence[nn.Module]) -> None:
        super().__init__()
        for index, module in enumerate(aliases):
            self.add_module(f"alias{index}", module)
        self.stem, self.parts, self.end = nn.Conv2d(3, CHANNELS, 3, padding=1), parts, nn.Conv2d(CHANNELS, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the maps."""
        return self.end(self.parts(self.stem(x)))


def conv(choose: Choose, stride: int | None = None) -> nn.Module:
    """A convolution whose output has ceil(size / stride) places."""
    stride = choose((1, 2)) if stride is None else stride
    size = choose((1, 3, 5))
    groups, mode = choose((1, 1, 4)), choose(("zeros", "zeros", "circular"))
    return nn.Conv2d(CHANNELS, CHANNELS, size, stride, size // 2, groups=groups, padding_mode=mode)


LEAVES: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "prelu": lambda: nn.PReLU(CHANNELS),
    "batch norm": lambda: nn.BatchNorm2d(CHANNELS),
    "frozen norm": lambda: FrozenBatchNorm2d(CHANNELS),
    "group norm": lambda: nn.GroupNorm(2, CHANNELS),
    "dropout": lambda: nn.Dropout2d(0.5),
    "max pool": lambda: nn.MaxPool2d(3, 2, 1),
    "max pool, ceil": lambda: nn.MaxPool2d(2, ceil_mode=True),
    "average pool": lambda: nn.AvgPool2d(3, 2, 1),
    "functional": Down,
}


def part(choose: Choose, depth: int, known: list[nn.Module]) -> nn.Module:
    """A random part of a network."""
    kind = choose(("conv", "conv", "block", "leaf", "function", "known", *(("group", "sum") if depth else ())))
    if kind == "conv":
        made = conv(choose)
    elif kind == "block":
        act = choose(
            [LEAVES["relu"], LEAVES["relu6"], LEAVES["silu"], lambda: Function(choose(list(FUNCTIONS)[:11]))]
        )()
        made = nn.Sequential(conv(choose, 2), choose((nn.BatchNorm2d(CHANNELS), nn.Identity())), act)
    elif kind == "leaf":
        made = LEAVES[choose(list(LEAVES))]()
    elif kind == "function":
        made = Function(choose(list(FUNCTIONS)))
    elif kind == "known" and known:
        return choose(known)
    elif kind == "sum":
        one, other = (nn.Sequential(conv(choose, 2), *some(choose, depth - 1, 1, known, whole=True)) for _ in range(2))
        made = Sum(one, choose((other, conv(choose, 2))), choose((nn.ReLU(), nn.Identity(), Function("swish"))))
    else:
        inner = some(choose, max(depth - 1, 0), 3, known)
        way = choose(("sequence", "names", "children", "list", "untraceable", "wrapper"))
        made = nn.Sequential(*inner) if way in ("sequence", "wrapper") else Parts(inner, way)
        made = nn.DataParallel(made) if way == "wrapper" else made
    known.append(made)
    return made


def some(choose: Choose, depth: int, most: int, known: list[nn.Module], whole: bool = False) -> list[nn.Module]:
    """Some random parts; those that are ``whole`` keep a map's size."""
    if whole:
        return [LEAVES[choose(("relu", "silu", "batch norm", "dropout", "group norm"))]() for _ in range(most)]
    return [part(choose, depth, known) for _ in range(choose(range(1, most + 1)))]


def network(choose: Choose) -> Net:
    """A random network, in evaluation mode, with randomised weights."""
    known: list[nn.Module] = []
    parts = nn.Sequential(*some(choose, 2, 4, known))
    aliases = [choose(known)] if known and choose((False, True)) else []
    return Net(parts, aliases).eval()
