"""Recipes: schedules against torch's, presets against the published numbers."""

import numpy as np
import pytest
import torch
from torch import nn

from antialiased_zoo.training.recipes import PRESETS, Recipe


def by_torch(schedule, steps, **options):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = schedule(optimizer, **options)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_schedules_are_torchs():
    schedulers = torch.optim.lr_scheduler
    base = Recipe(sizes=((8, 90),), lr=0.3)
    cosine = Recipe(sizes=((8, 90),), lr=0.3, schedule="cosine")
    cycle = Recipe(sizes=((8, 90),), lr=0.3, schedule="one-cycle", warmup=0.25)
    done = [step / 90 for step in range(90)]
    assert np.allclose([base.lr_at(d) for d in done], by_torch(schedulers.StepLR, 90, step_size=30))
    assert np.allclose([cosine.lr_at(d) for d in done], by_torch(schedulers.CosineAnnealingLR, 90, T_max=90))
    # OneCycleLR puts its peak at step 0.25 * n - 1 and its end at n - 1: with n = 401, every 400 steps of ours.
    expected = by_torch(schedulers.OneCycleLR, 401, max_lr=0.3, total_steps=401, pct_start=101 / 401)
    assert np.allclose([cycle.lr_at(step / 400) for step in range(401)], expected, atol=1e-5)


def test_linear_warm_up_and_sizes():
    recipe = Recipe(sizes=((8, 2), (12, 1)), lr=0.3, schedule="cosine", warmup=0.5)
    assert [recipe.lr_at(done) for done in (0, 0.25, 0.5)] == pytest.approx([0, 0.15, 0.3])
    assert recipe.lr_at(1) == pytest.approx(0)
    assert [recipe.size_at(epoch) for epoch in range(recipe.epochs)] == [8, 8, 12]
    with pytest.raises(ValueError, match="3 epochs"):
        recipe.size_at(3)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"sizes": ()}, {"sizes": ((0, 1),)}, {"schedule": "poly"}, {"augment": "x"}, {"ema": 1.0}, {"cutout": 0.5}),
        *({"batch_size": 0}, {"eval_every": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"weight_decay": -1e-4}),
    ],
)
def test_recipes_refuse_what_cannot_be_trained(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe(**{"sizes": ((8, 1),), **wrong})


def test_published_presets():
    resnet, fine = PRESETS["imagenet-resnet"], PRESETS["imagenet-finetune"]
    assert (resnet.lr, resnet.batch_size, resnet.epochs, resnet.weight_decay) == (0.1, 256, 90, 1e-4)
    assert (fine.lr, fine.epochs) == (pytest.approx(resnet.lr / 10), resnet.epochs * 2 // 3)
    mobilenet = PRESETS["imagenet-mobilenet"]
    assert (mobilenet.lr, mobilenet.epochs, mobilenet.weight_decay) == (0.05, 150, 4e-5)
