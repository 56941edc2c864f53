"""A network teaches its antialiased copy: what is learned, shared between processes and refused."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from forked import run_two
from taught_pair import IMAGES, bits, pair
from torch import nn

import antialiased_zoo as az
from antialiased_zoo.adaptation.loop import Distillation
from antialiased_zoo.training import Execution


def divergence(student: nn.Module, teacher: nn.Module) -> float:
    images = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        answers = [model.eval()(images).log_softmax(1) for model in (student, teacher)]
    return float(F.kl_div(*answers, log_target=True, reduction="batchmean"))


def test_the_student_comes_nearer_and_nothing_else_changes() -> None:
    student, teacher = pair()
    student.train()
    before, taught, buffers = divergence(copy.deepcopy(student), teacher), bits(teacher), dict(student.named_buffers())
    teacher.train()
    kept = {name: buffer.clone() for name, buffer in buffers.items()}
    assert az.distill(student, teacher, [(batch, "labels") for batch in IMAGES], steps=60, lr=5e-2) is student
    assert student.training
    assert teacher.training
    assert bits(teacher) == taught
    assert all(torch.equal(buffers[name], tensor) for name, tensor in kept.items())
    assert divergence(student, teacher) < 0.2 * before


def test_one_step_is_adams_on_the_stated_loss() -> None:
    """The loss, written out anew for one shift of nothing: divergence and relative squared error of the maps."""
    student, teacher = pair()
    expected, mentor = copy.deepcopy(student).eval(), copy.deepcopy(teacher).eval()
    az.distill(student, teacher, IMAGES[:1], steps=1, lr=1e-2, layers=["1"], reach=0, views=1)
    with torch.no_grad():
        goal = mentor[:2](IMAGES[0])
        wanted = mentor(IMAGES[0]).softmax(1)
    found = expected[:2](IMAGES[0])
    answer = expected[2:](found)
    loss = (wanted * (wanted.log() - answer.log_softmax(1))).sum(1).mean() + (found - goal).square().mean() / goal.var()
    loss.backward()
    for mine, theirs in zip(student.parameters(), expected.parameters(), strict=True):
        # Adam's first step is the learning rate times the gradient's sign; small gradients are held down by epsilon.
        clear = theirs.grad.abs() > 1e-5
        step = torch.where(clear, -1e-2 * theirs.grad.sign(), mine.detach() - theirs.detach())
        torch.testing.assert_close(mine.detach(), theirs.detach() + step, rtol=0, atol=2e-5)
    assert sum(int((p.grad.abs() > 1e-5).sum()) for p in expected.parameters()) > 1000


def test_it_stops_when_it_comes_no_nearer_and_keeps_the_nearest() -> None:
    student, teacher = pair()
    log: list[dict[str, Any]] = []
    wild = {"lr": 5.0, "check_every": 1, "patience": 2, "layers": ()}
    az.distill(student, teacher, IMAGES, steps=50, held_out=IMAGES, **wild, report=log.append)
    divergences = [entry["divergence"] for entry in log]
    best = divergences.index(min(divergences))
    assert len(log) == best + 1 + 2 < 50
    with torch.no_grad():
        ours, theirs = (model.eval()(torch.cat(IMAGES)).double().softmax(1) for model in (student, teacher))
    divergence = (theirs * (theirs.log() - ours.log())).sum(1).mean()
    assert float(divergence) == pytest.approx(min(divergences), rel=1e-4)
    agreement = (ours.argmax(1) == theirs.argmax(1)).double().mean()
    assert 100 * float(agreement) == pytest.approx(log[best]["agreement"])


def test_shifts_are_random_within_reach_and_the_same_when_a_run_goes_on() -> None:
    student, teacher = pair()
    identity = {"steps": 1, "lr": 1e-2, "ema": 0.0, "reach": 3, "views": 2, "circular": 0.5, "seed": 5}
    run = Distillation(student, teacher, identity, Execution(), None)
    drawn, rolled = [], []
    for run.step in range(200):
        shifts, roll = run._draw_shifts(40, 50)
        assert run._draw_shifts(40, 50) == (shifts, roll)
        drawn.append(tuple(shifts))
        rolled += [roll] if roll else []
    assert {shift for pair_ in drawn for shift in pair_} == set(range(-3, 4))
    assert all(first != second for first, second in drawn)
    assert len(set(drawn)) == 7 * 6
    assert 70 < len(rolled) < 130
    assert 36 < max(roll[0] for roll in rolled) < 40
    assert 46 < max(roll[1] for roll in rolled) < 50


def test_circular_shifts_teach_the_student_to_answer_alike() -> None:
    """A head that weighs places can learn to weigh all alike, which the images as they are do not ask for."""
    torch.manual_seed(0)
    coarse = F.interpolate(torch.randn(24, 3, 4, 4), 36, mode="bilinear")
    teacher = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    places = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
    student = nn.Sequential(*places, nn.Linear(128, 5))
    spread = {}
    for circular in (0.0, 0.5):
        taught = copy.deepcopy(student)
        az.distill(taught, teacher, [coarse], steps=100, lr=2e-2, layers=(), circular=circular, reach=2)
        with torch.no_grad():
            answers = [taught(coarse[..., 2:-2, 2:-2].roll((step, step), (2, 3))).softmax(1) for step in (0, 9, 17)]
        spread[circular] = float(torch.stack(answers).std(0).mean())
    assert spread[0.5] < 0.6 * spread[0.0], spread


def test_the_average_is_what_the_student_ends_with() -> None:
    ends = [pair()[0] for _ in range(3)]
    teacher = pair()[1]
    for end, steps in zip(ends, (1, 1, 0), strict=True):
        if steps:
            az.distill(end, teacher, IMAGES, steps=1, lr=1e-2, ema=0.99 if end is ends[0] else 0.0)
    averaged, last, start = (end[1][0].weight.detach() for end in ends)
    decay = 1 / 11  # the first step's
    torch.testing.assert_close(averaged, decay * start + (1 - decay) * last)


def test_bfloat16() -> None:
    student, teacher = pair()
    before = divergence(copy.deepcopy(student), teacher)
    az.distill(student, teacher, IMAGES, steps=20, lr=5e-2, execution=Execution(amp=torch.bfloat16))
    assert divergence(student, teacher) < 0.5 * before


def _share(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    student, teacher = pair()
    batches = [batch[3 * rank : 3 * rank + 3] for batch in IMAGES]
    how = Execution(rank=rank, world=2)
    az.distill(student, teacher, batches, steps=4, held_out=batches[:1], check_every=2, execution=how)
    torch.save(student.state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    run_two(_share, str(tmp_path))
    shares = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    student, teacher = pair()
    az.distill(student, teacher, IMAGES, steps=4, held_out=IMAGES[:1], check_every=2)
    start = pair()[0].state_dict()
    for name, tensor in student.state_dict().items():
        assert torch.equal(shares[0][name], shares[1][name])
        torch.testing.assert_close(shares[0][name], tensor, rtol=0, atol=5e-6)  # Adam has made steps of 2e-4
    assert not torch.equal(start["1.0.weight"], student.state_dict()["1.0.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a positive integer"),
        ({"lr": 0.0}, "lr > 0"),
        ({"ema": 1.0}, "ema < 1"),
        ({"patience": 0}, "patience must be"),
        ({"reach": -1}, "reach must be an integer number of pixels"),
        ({"reach": 24}, "too small for shifts of 24 pixels"),
        ({"reach": 20}, "no layer's map of an image of 8 pixels is large enough"),
        ({"reach": 1, "views": 4}, "more than the 3 different views"),
        ({"circular": 1.5}, "share of the steps"),
        ({"layers": ["3"]}, "not a feature map"),
        ({"layers": ["1", "nowhere"]}, "the student has no layer 'nowhere'"),
        ({"held_out": []}, "held_out gave no batch"),
        ({"patience": 2}, "patience counts evaluations on held_out"),
        ({"execution": Execution(amp=torch.float16)}, "bfloat16"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    student, teacher = pair()
    with pytest.raises(ValueError, match=message):
        az.distill(student, teacher, IMAGES, **{"steps": 1, **options})


def test_only_batches_of_images_are_distilled() -> None:
    """They ended in torch's "required rank 4 tensor to use channels_last format" and in "too small for shifts"."""
    student, teacher = pair()
    with pytest.raises(TypeError, match=r"got one tensor .*: put it into a list"):
        az.distill(student, teacher, IMAGES[0], steps=1)
    for layer, shape in ((nn.Conv1d, (2, 3, 64)), (nn.Conv3d, (2, 3, 64, 64, 64))):
        net = nn.Sequential(layer(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten())
        with pytest.raises(ValueError, match="1-D and 3-D networks cannot be distilled here"):
            az.distill(copy.deepcopy(net), net, [torch.zeros(shape)], steps=1)


def test_a_pair_that_does_not_match() -> None:
    student, teacher = pair()
    teacher[3][3] = nn.Linear(16, 4)
    with pytest.raises(ValueError, match=r"\(1, 5\) and \(1, 4\)"):
        az.distill(student, teacher, IMAGES, steps=1)
    with pytest.raises(ValueError, match="share parameters"):
        az.distill(teacher, teacher, IMAGES, steps=1)
    with pytest.raises(ValueError, match="no batch"):
        az.distill(student, pair()[1], [], steps=1)
    with pytest.raises(ValueError, match="the loader gave no batches when read again: give a list"):
        az.distill(student, pair()[1], (images for images in IMAGES), steps=4)
    with pytest.raises(ValueError, match="held_out gave no batches when read again: give a list"):
        az.distill(student, pair()[1], IMAGES, steps=2, held_out=(images for images in IMAGES), check_every=1)
    with pytest.raises(ValueError, match="the loader gave an empty batch"):
        az.distill(student, pair()[1], [IMAGES[0][:0]], steps=1)
    with pytest.raises(TypeError, match="got dict"):
        az.distill(student, pair()[1], [{"image": IMAGES[0]}], steps=1)
    with pytest.raises(FloatingPointError, match="loss is"):
        az.distill(student, pair()[1], [IMAGES[0] * math.inf], steps=1, layers=())


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        (lambda logits: {"logits": logits}, "dict and dict"),
        (lambda logits: (logits,), "tuple and tuple"),
        (lambda logits: logits[:, :1], r"\(1, 1\) and \(1, 1\)"),  # the student learned nothing from a softmax of 1
        (lambda logits: logits[:, 0], r"\(1,\) and \(1,\)"),
    ],
)
def test_networks_that_return_no_logits_are_refused(answer, given):
    class Wrapped(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            return answer(self.network(x))

    with pytest.raises(ValueError, match=f"return {given} for one image; both must return a tensor of logits"):
        az.distill(*map(Wrapped, pair()), IMAGES, steps=1, layers=())
