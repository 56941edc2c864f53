"""The small network to which tool_table.py applies each tool, and an input for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """A strided convolution, norm and activation, then a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6()
        self.out = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map."""
        return self.out(self.act(self.norm(self.conv(x))))


class Wrapper(nn.Module):
    """Calls the module that it holds, and has a layer of its own besides."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.probe = inner, nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map."""
        return self.inner(x)


class Branches(nn.Module):
    """The sum of two strided convolutions; `reparameterize` merges them into one, with the block's stride."""

    def __init__(self) -> None:
        super().__init__()
        self.stride = 2
        self.one, self.two = nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 1, 2)
        self.folded: nn.Module | None = None
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map."""
        return self.act(self.one(x) + self.two(x) if self.folded is None else self.folded(x))

    def reparameterize(self) -> None:
        """Fold the branches."""
        weight = self.one.weight + nn.functional.pad(self.two.weight, [1, 1, 1, 1])
        bias = self.one.bias + self.two.bias
        self.folded = nn.Conv2d(8, 8, 3, self.stride, 1)
        self.folded.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
        del self.one, self.two


class Net(nn.Module):
    """A stem, a block, two branches, a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.branches = nn.Conv2d(3, 8, 3, padding=1), Block(), Branches()
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map."""
        return self.head(self.pool(self.branches(self.block(self.stem(x)))).mean((2, 3)))


def network() -> Net:
    """The network, with batch norms that are not identities."""
    torch.manual_seed(0)
    net = Net().eval()
    net.block.norm.running_var.uniform_(0.5, 1.5)
    net.block.norm.running_mean.normal_()
    return net
