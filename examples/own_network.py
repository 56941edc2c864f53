"""Antialiases your own network: print the plan, apply it, and train as before.

python examples/own_network.py

For custom activations, see `az.register_activation`.
"""

import torch
from torch import Tensor, nn

import antialiased_zoo as az


class Residual(nn.Module):
    """A residual block that halves the resolution."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.act = nn.SiLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Conv2d(channels, out_channels, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """From ``(N, channels, H, W)`` to half the resolution."""
        inner = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        return self.act(inner + self.shortcut(x))


class Network(nn.Module):
    """A small classifier with a strided stem, a max pool and residual blocks."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.blocks = nn.Sequential(Residual(16, 32), Residual(32, 64))
        self.head = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """From ``(N, 3, H, W)`` to ``(N, num_classes)``."""
        return self.head(self.blocks(self.pool(self.stem(x))).mean((2, 3)))


def main() -> tuple[float, float]:
    """Antialias, train a little, and return the first and the last loss."""
    torch.manual_seed(0)
    model = Network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    print(az.plan(model))  # what would be treated or skipped, and why

    names = list(model.state_dict())
    az.antialias_(model, filter_size=4, optimizers=optimizer)
    assert list(model.state_dict()) == names  # checkpoints still load
    images, classes = torch.randn(32, 3, 64, 64), torch.arange(32) % 10
    losses = []
    for _ in range(20):
        loss = nn.functional.cross_entropy(model(images), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}")
    return losses[0], losses[-1]


if __name__ == "__main__":
    main()
