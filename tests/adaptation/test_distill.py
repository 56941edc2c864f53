"""A network teaches its antialiased copy: what is learned, resumed, shared between processes and refused."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from forked import run_two
from torch import Tensor, nn
from without_float64 import WithoutFloat64

import antialiased_zoo as az
from antialiased_zoo.adaptation.loop import Distillation
from antialiased_zoo.adaptation.matching import Match, errors_by_displacement, target
from antialiased_zoo.training import Execution

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


def divergence(student: nn.Module, teacher: nn.Module) -> float:
    images = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        answers = [model.eval()(images).log_softmax(1) for model in (student, teacher)]
    return float(F.kl_div(*answers, log_target=True, reduction="batchmean"))


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


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


class KilledError(Exception):
    """Stands for the end of a process."""


def dying(after: int) -> Iterator[Tensor]:
    for count in range(after):
        yield IMAGES[count % 3]
    raise KilledError


@pytest.mark.parametrize("after", [1, 5, 8])
def test_killed_and_resumed_it_ends_with_the_same_bits(tmp_path: Path, after: int) -> None:
    options: dict[str, Any] = {"steps": 9, "ema": 0.9, "held_out": IMAGES[:1], "check_every": 2}
    options["execution"] = Execution(checkpoint_every=2)
    (whole, teacher), logs = pair(), ([], [])
    az.distill(whole, teacher, IMAGES, **options, report=logs[0].append)
    with pytest.raises(KilledError):
        az.distill(pair()[0], teacher, dying(after), **options, folder=tmp_path, report=lambda _: None)
    resumed = pair()[0]
    az.distill(resumed, teacher, IMAGES, **options, folder=tmp_path, report=logs[1].append)
    assert bits(resumed) == bits(whole)
    assert logs[1] == logs[0][-len(logs[1]) :]
    again = pair()[0]  # a finished run is not run again
    az.distill(again, teacher, dying(0), **options, folder=tmp_path)
    assert bits(again) == bits(whole)


def _frozen(student: nn.Module) -> nn.Module:
    student[0].requires_grad_(False)
    return student


def _moved(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        model[0][0].weight[0, 0, 0, 0] += 1e-6
    return model


CHANGES: dict[str, dict[str, Any]] = {
    "lr": {"lr": 0.1},
    "images": {"identity": {"images": "other photos"}},
    "amp": {"execution": Execution(amp=torch.bfloat16)},
    "held_out": {"held_out": IMAGES},
    "teacher": {"teacher": lambda: _moved(pair()[1])},
    "student": {"student": lambda: _moved(pair()[0])},
    "student: its filters": {"student": lambda: az.antialias(tiny(), 3)},
    "student: its padding": {"student": lambda: az.antialias(tiny(), pad_type="zero")},
    "student: what is trained": {"student": lambda: _frozen(pair()[0])},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that starts from `tiny`, antialiased, and learns from ``pair``'s teacher."""
    folder = tmp_path_factory.mktemp("finished")
    az.distill(az.antialias(tiny()), pair()[1], IMAGES, steps=1, folder=folder, identity={"images": "photos"})
    return folder


@pytest.mark.parametrize("change", CHANGES)
def test_the_checkpoint_of_another_run_is_refused(finished: Path, change: str) -> None:
    options: dict[str, Any] = {"identity": {"images": "photos"}, **CHANGES[change]}
    student, teacher = (options.pop(name, None) for name in ("student", "teacher"))
    networks = student() if student else az.antialias(tiny()), teacher() if teacher else pair()[1]
    name = change.partition(":")[0]
    with pytest.raises(ValueError, match=rf"checkpoint\.pt is of another run \({name}: \S.* there, \S.* now\)"):
        az.distill(*networks, IMAGES, steps=1, folder=finished, **options)


@pytest.mark.parametrize("name", ["lr", "teacher", "world"])
def test_a_setting_of_its_own_in_the_identity_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"own settings: rename {name}$"):
        az.distill(*pair(), IMAGES, steps=1, folder=tmp_path, identity={name: 1, "images": "photos"})


def test_the_checkpoint_of_an_earlier_version_is_refused(finished: Path, tmp_path: Path) -> None:
    """Such a checkpoint does not say what its run started from."""
    state = torch.load(finished / "checkpoint.pt", weights_only=True)
    del state["identity"]["student"], state["identity"]["teacher"]
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"\(teacher: unstated there, \w{16} now; student: unstated there, \w{16} now"):
        az.distill(*(az.antialias(tiny()), pair()[1], IMAGES), steps=1, folder=tmp_path, identity={"images": "photos"})


def test_a_run_goes_on_with_its_own_batch_norm_statistics(finished: Path) -> None:
    """They may be measured anew for the call that goes on, and rounded differently."""
    again = az.recalibrate(az.antialias(tiny()), IMAGES, progress=False)
    az.distill(again, pair()[1], IMAGES, steps=1, folder=finished, identity={"images": "photos"})
    saved = torch.load(finished / "checkpoint.pt", weights_only=True)["student"]
    assert bits(again) == {name: tensor.numpy().tobytes() for name, tensor in saved.items()}


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


def test_a_pair_that_does_not_match() -> None:
    student, teacher = pair()
    teacher[3][3] = nn.Linear(16, 4)
    with pytest.raises(ValueError, match=r"\(1, 5\) and \(1, 4\)"):
        az.distill(student, teacher, IMAGES, steps=1)
    with pytest.raises(ValueError, match="share parameters"):
        az.distill(teacher, teacher, IMAGES, steps=1)
    with pytest.raises(ValueError, match="no batch"):
        az.distill(student, pair()[1], [], steps=1)
    with pytest.raises(TypeError, match="got dict"):
        az.distill(student, pair()[1], [{"image": IMAGES[0]}], steps=1)
    with pytest.raises(FloatingPointError, match="loss is"):
        az.distill(student, pair()[1], [IMAGES[0] * math.inf], steps=1, layers=())


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


def test_the_page_shows_the_recorded_figures_of_the_packaged_pair() -> None:
    root = Path(__file__).parents[2]
    folder = root / "results" / "adapting" / "lite0"
    unseen, seen = (json.loads((folder / kind / "results.json").read_text())["models"] for kind in ("unseen", "seen"))
    page = (root / "docs" / "adapting.md").read_text()
    shown = page.partition("<!-- lite0 -->")[2].partition("<!-- /lite0 -->")[0]
    rows = [(label, "figures", "") for label in ("original", "seed-0", "seed-1", "packaged")]
    for label, of, sign in (*rows, ("packaged", "differences", "+")):
        consistency = [unseen[label][of][f"{kind}_consistency"] for kind in ("crop", "circular")]
        agreement = [] if label == "original" or of == "differences" else [unseen[label][of]["top1"]]
        for figure in (*agreement, *consistency, seen[label][of]["top1"]):
            value, low, high = (f"{figure[name]:{sign}.1f}" for name in ("value", "low", "high"))
            assert f"{value} [{low}, {high}]" in shown
    runs = json.loads((folder / "runs.json").read_text())
    assert runs["weights"] == az.get_entry("efficientnet_lite0", 4).file


def test_the_page_shows_the_recorded_filters_and_photos() -> None:
    root = Path(__file__).parents[2]
    page, folder = (root / "docs" / "adapting.md").read_text(), root / "results" / "adapting" / "lite0" / "filters"
    found, runs = (json.loads((folder / name).read_text()) for name in ("results.json", "runs.json"))
    for label, run in runs.items():
        figures = found["models"][label]["figures"]
        cells = [f"{min(entry['divergence'] for entry in run['curve']):.3f}"]
        for name in ("top1", "crop_consistency", "circular_consistency"):
            cells.append("{value:.1f} [{low:.1f}, {high:.1f}]".format(**figures[name]))
        assert f"photos | {' | '.join(cells)} |" in page
