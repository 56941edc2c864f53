"""Checks that only raise an error do not end a trace; other code that depends on values does.

PYTEST_DONT_REWRITE: the checks here are compiled as they are elsewhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transforming import Calls, assert_same_places

import antialiased_zoo as az


def asserts(x: Tensor) -> None:
    assert x.shape[1] == 8, f"got {x.shape[1]:>3} channels"


def asserts_either(x: Tensor) -> None:
    assert len(x.shape) == 4 or x.dim() == 3


def asserts_both(x: Tensor) -> None:
    assert not (x.dim() == 3 or x.shape[1] != 8)  # noqa: PT018


def raises(x: Tensor) -> list[int]:
    if x.shape[1] != 8:
        raise ValueError(f"got {x.shape}")
    return [2 * i for i in range(3)]


def raises_unless_either(x: Tensor) -> None:
    if x.dim() != 3 and x.dim() != 4:  # as torch's batch norms do
        raise ValueError("neither 3 nor 4 axes")


def raises_unless_in(x: Tensor) -> None:
    if x.dim() not in (3, 4):
        raise ValueError("neither 3 nor 4 axes")


def asserts_in(x: Tensor) -> None:
    assert x.dim() in (3, 4)
    assert x.dim() not in (0, 5)


def raises_else(x: Tensor) -> int:
    if len(x) > 0:
        number = 1
    else:
        raise ValueError("no images")
    return number


def raises_within(x: Tensor) -> None:
    with contextlib.nullcontext():
        if torch.isnan(x).any():
            raise ValueError("not a number")


@pytest.mark.parametrize(
    "check",
    [
        *(asserts, asserts_either, asserts_both, asserts_in),
        *(raises, raises_unless_either, raises_unless_in, raises_else, raises_within),
    ],
)
def test_a_check_is_passed(check: Callable[[Tensor], Any]) -> None:
    net = Checks(check)
    plan = az.plan(net)
    assert [str(site.placement) for site in plan.sites] == ["after act"]
    assert not plan.notes
    assert_same_places(net, torch.randn(2, 3, 24, 25))
    with pytest.raises((AssertionError, ValueError)):
        check(torch.full((0, 5, 4, 4, 1), torch.nan) if check is not raises_within else torch.tensor(torch.nan))


def changes(x: Tensor) -> None:
    if x.sum() > 0:
        seen.append(1)


def changes_first(x: Tensor) -> None:
    if x.dim() == 4:
        seen.append(1)
        if x.shape[1] != 8:
            raise ValueError("not 8 channels")


def catches(x: Tensor) -> None:
    try:
        if x.sum() > 0:
            raise RuntimeError("positive")
    except RuntimeError:
        seen.append(1)


def returns(x: Tensor) -> int:
    return 1 if x.sum() > 0 else 2


seen: list[int] = []


@pytest.mark.parametrize("code", [changes, changes_first, catches, returns])
def test_other_code_that_depends_on_values_is_not_traced(code: Callable[[Tensor], Any]) -> None:
    assert "cannot be traced" in az.plan(Checks(code)).notes[0]


def catches_any(x: Tensor) -> Tensor:
    try:
        return x if x.sum() < 1e9 else x[..., ::2, ::2]
    except ValueError:  # what `torch.fx` raises is one
        return x[..., ::2, ::2]


def test_code_that_catches_the_traces_own_error_is_not_traced() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), Calls(catches_any), nn.MaxPool2d(2))
    plan = az.plan(net)
    assert [site.name for site in plan.sites] == ["2"]
    assert "1: Calls cannot be traced" in plan.notes[0]


def test_a_check_of_the_maps_size_sees_the_size_that_it_saw() -> None:
    def check(x: Tensor) -> None:
        assert x.shape[-2:] == (11, 13)

    net = Checks(check)
    assert [str(site.placement) for site in az.plan(net).sites] == ["after down"]
    assert_same_places(net, torch.randn(1, 3, 24, 27))


class Checks(nn.Module):
    def __init__(self, check: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.check, self.first, self.down, self.act = check, nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(self.first(x))
        self.check(x)
        return self.act(x)
