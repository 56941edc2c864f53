"""What a model may return."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import antialiased_zoo as az


@dataclasses.dataclass
class Record:
    one: Tensor
    other: Tensor


class Pair(NamedTuple):
    one: Tensor
    other: Tensor


class Refuses:
    """An object that cannot be compared."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __eq__(self, other: object) -> bool:
        raise TypeError("not comparable")

    __hash__ = None  # type: ignore[assignment]


class Returns(nn.Module):
    def __init__(self, made: Callable[..., Any]) -> None:
        super().__init__()
        self.made, self.stem, self.down = made, nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.down(self.stem(x).relu())
        return self.made(x, x.relu())


MADE: dict[str, tuple[Callable[..., Any], Callable[[Any], Any]]] = {
    "dataclass": (Record, lambda found: (found.one, found.other)),
    "named tuple": (Pair, tuple),
    "mapping": (lambda *both: OrderedDict(zip("ab", both, strict=True)), lambda found: tuple(found.values())),
    "dataclass in a list": (lambda *both: [Record(*both)], lambda found: (found[0].one, found[0].other)),
}


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(("made", "parts"), MADE.values(), ids=MADE)
def test_any_container_of_tensors_is_returned(
    made: Callable[..., Any], parts: Callable[[Any], Any], graph: bool
) -> None:
    net, x = Returns(made), torch.rand(1, 3, 20, 23)
    assert len(az.plan(net, graph=graph).treated) == 1
    torch.testing.assert_close(parts(az.antialias(net, 1, graph=graph)(x)), parts(net(x)))


@torch.fx.wrap
def refusing(x: Tensor) -> Refuses:
    return Refuses(x)


@torch.fx.wrap
def first(given: Refuses) -> Tensor:
    return given.tensors[0]


def test_a_value_that_cannot_be_compared_depends_on_the_map() -> None:
    net, x = nn.Sequential(Returns(lambda one, _: first(refusing(one)))), torch.rand(1, 3, 20, 23)
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))
