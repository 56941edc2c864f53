"""Where a student's maps lie on its teacher's: displacements, and the goal that they give."""

from __future__ import annotations

import pytest
import torch
from taught_pair import IMAGES, pair
from torch import nn
from without_float64 import WithoutFloat64

import antialiased_zoo as az
from antialiased_zoo.adaptation.matching import Match, errors_by_displacement, target


@torch.no_grad()
def test_a_displacement_is_found_and_the_goal_lies_there() -> None:
    """Blurs of four taps move smooth maps by half a pixel each: 0.5 + 1 pixels after two of stride 2."""
    rows = torch.arange(96.0)
    smooth = torch.sin(rows / 9)[:, None] * torch.cos(rows / 7) + torch.cos(rows / 11)[:, None]
    image = smooth.expand(1, 1, 96, 96)
    teacher = nn.Sequential(*(nn.Sequential(nn.Conv2d(1, 1, 1, stride=2), nn.ReLU()) for _ in range(4)))
    for block in teacher:
        nn.init.ones_(block[0].weight)
        nn.init.constant_(block[0].bias, 2.0)
    student = az.antialias(teacher, 4, stem_stride=1)
    errors, _ = errors_by_displacement(student, teacher, image, ["1", "2"], 8)
    assert (errors.argmin(1) - 8 - torch.tensor([1.5, 3.5])).abs().max() <= 0.5
    maps = {shift: teacher[:3](image[..., shift : shift + 80, shift : shift + 80]) for shift in (1, 6)}
    goal, (rows, columns) = target(maps, Match(3, 8.0, 1.0))
    direct = teacher[:3](image[..., 3:83, 3:83])[..., rows, columns]
    plain = teacher[:3](image[..., :80, :80])[..., rows, columns]
    assert goal.shape == direct.shape == (1, 1, 8, 8)
    assert (goal - direct).abs().mean() < 0.4 * (plain - direct).abs().mean()
    with pytest.raises(ValueError, match="too small for shifts"):
        target({0: torch.zeros(1, 1, 1, 1)}, Match(3, 8.0, 1.0))


@torch.no_grad()
def test_the_shares_of_a_batch_average_to_the_batch() -> None:
    """All processes must divide by one scale, which is that of one process."""
    student, teacher = pair()
    images = IMAGES[0] + torch.tensor([0.0, 0.0, 0.0, 3.0, 3.0, 3.0]).view(6, 1, 1, 1)  # shares that differ
    whole, *shares = (
        errors_by_displacement(student.eval(), teacher.eval(), x, ["0", "2"], 2) for x in (images, *images.split(3))
    )
    for of_whole, one, other in zip(whole, *shares, strict=True):
        torch.testing.assert_close((one + other) / 2, of_whole)
    moments = whole[1]
    variance = torch.stack([teacher[:n](images[..., 2:-2, 2:-2]).double().var(correction=0) for n in (1, 3)])
    torch.testing.assert_close(moments[:, 1] - moments[:, 0].square(), variance, rtol=1e-5, atol=0)


@torch.no_grad()
def test_a_device_without_float64_finds_the_same_displacements() -> None:
    student, teacher = (model.eval() for model in pair())
    elsewhere = IMAGES[0].as_subclass(WithoutFloat64)
    for found, expected in zip(
        errors_by_displacement(student, teacher, elsewhere, ["1"], 2),
        errors_by_displacement(student, teacher, IMAGES[0], ["1"], 2),
        strict=True,
    ):
        assert torch.equal(found, expected)
