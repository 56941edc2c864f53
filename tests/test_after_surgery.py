"""What still works on a model that was planned for or antialiased: running, training, storing, exporting."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import antialiased_zoo as az


class KeepsWhatItSaw(nn.Module):
    """Notes facts of its first input, as torchvision's RoI pooling does, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.relu = nn.ReLU()
        self.rows: object = None
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.rows is None:
            self.rows = x.shape[2]
        return self.relu(self.conv(x)) / self.rows


def test_reading_a_model_leaves_nothing_in_it() -> None:
    net = KeepsWhatItSaw()
    az.antialias_(net, stem_stride=1)
    assert (net.rows, net.calls) == (None, 0)
    net(torch.randn(1, 8, 6, 6))
    assert (net.rows, net.calls) == (6, 1)
