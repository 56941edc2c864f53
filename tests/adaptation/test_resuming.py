"""A distillation that was cut off goes on from its checkpoint, and from no other run's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from taught_pair import IMAGES, bits, pair, tiny
from torch import Tensor, nn

import antialiased_zoo as az
from antialiased_zoo.training import Execution


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


SETTINGS = {"lr": np.float64(1e-3), "ema": np.float32(0.5), "seed": np.int64(3), "circular": np.float64(0.5)}
MORE = {"photos": Path("photos"), "sizes": np.array([3, 4]), "inner": {"count": np.int64(7)}, "dtype": torch.float32}
MORE |= {"weights": torch.tensor([0.5, 1.5]), "classes": {np.int64(1): "cat"}}


def test_a_run_goes_on_whatever_types_its_settings_have(tmp_path: Path) -> None:
    options: dict[str, Any] = {**SETTINGS, "identity": MORE, "steps": 2, "folder": tmp_path}
    for _ in range(2):
        student, teacher = pair()
        az.distill(student, teacher, IMAGES, **options)
    with pytest.raises(ValueError, match=r"inner\.count: 7 there, 8 now"):
        az.distill(student, teacher, IMAGES, **{**options, "identity": {**MORE, "inner": {"count": 8}}})


def test_what_no_checkpoint_can_hold_is_refused_before_the_work(tmp_path: Path) -> None:
    student, teacher = pair()
    day = date(2026, 1, 1)
    for value in (day, {"inner": [day]}, {day: 1}, np.datetime64(day), np.array([day]), np.float32):
        with pytest.raises(ValueError, match=r"identity's day.* is a (date|list|type), which no checkpoint can hold"):
            az.distill(student, teacher, dying(0), steps=1, folder=tmp_path, identity={"day": value})


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


def test_a_diverged_run_keeps_its_last_good_checkpoint(tmp_path: Path) -> None:
    batches = [IMAGES[0], IMAGES[0], IMAGES[0] * float("nan"), IMAGES[0]]
    how = Execution(checkpoint_every=1)
    with pytest.raises(FloatingPointError, match="the loss is nan at step 3"):
        az.distill(*pair(), batches, steps=4, check_every=4, layers=(), folder=tmp_path, execution=how)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2
    assert all(tensor.isfinite().all() for tensor in state["student"].values())


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
