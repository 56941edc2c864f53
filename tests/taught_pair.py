"""What the tests of distillation share: a tiny network, antialiased to learn from itself, and images for both."""

from __future__ import annotations

import torch
from torch import nn

import antialiased_zoo as az

IMAGES = [torch.randn(6, 3, 48, 48, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]


def tiny() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()),
        nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 5)),
    )


def pair() -> tuple[nn.Module, nn.Module]:
    teacher = az.recalibrate(tiny(), IMAGES, progress=False)
    student = az.recalibrate(az.antialias(teacher), IMAGES, progress=False)
    with torch.no_grad():
        student[3][3].bias += torch.tensor([1.0, -1.0, 1.0, -1.0, 0.0])  # something that is easy to learn back
    return student, teacher


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}
