"""Strides made by views, reductions and slices: the plan lists them, and not the ops that look alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import antialiased_zoo as az


class Then(nn.Module):
    def __init__(self, then: Callable[[Tensor], Tensor], ndim: int) -> None:
        super().__init__()
        self.conv, self.then = (nn.Conv1d, nn.Conv2d)[ndim - 1](1, 8, 3, padding=1), then

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self.conv(x).relu())


WINDOWS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "mean of two": (lambda x: x.view(x.shape[0], 8, -1, 2).mean(-1), 1),
    "maximum of two": (lambda x: x.view(x.shape[0], 8, x.shape[2] // 2, 2).amax(3), 1),
    "mean of two tokens": (lambda x: x.transpose(1, 2).reshape(x.shape[0], -1, 2, 8).mean(2), 1),
    "every other sample": (lambda x: x.permute(2, 0, 1)[::2], 1),
    "every other row": (lambda x: x.movedim(2, 0)[::2], 2),
    "indexed rows": (lambda x: x.movedim(2, 0).index_select(0, torch.tensor([0, 2])), 2),
    "axis": (lambda x: x.view(x.shape[0], 8, -1, 2).mean(axis=-1), 1),
    **{
        name: (lambda x, f=f: f(x.reshape(x.shape[0], 8, 16, 2, 32)), 2)
        for name, f in {
            "norm": lambda x: x.norm(dim=3),
            "vector norm": lambda x: torch.linalg.vector_norm(x, 2, 3),
            "logsumexp": lambda x: x.logsumexp(3),
            "median": lambda x: x.median(3).values,
            "topk": lambda x: x.transpose(3, 4).reshape(x.shape[0], 8, 16, 32, 2).topk(1).values,
            "sort": lambda x: x.sort(3).values,
        }.items()
    },
}


@pytest.mark.parametrize("name", WINDOWS)
def test_strides_without_a_strided_op_are_listed(name: str) -> None:
    net = Then(*WINDOWS[name])
    (site,) = az.plan(net).sites
    assert site.placement is None
    assert site.reason


@pytest.mark.parametrize(
    ("then", "ndim"),
    [
        (lambda x: x.view(x.shape[0], 8, x.shape[2], -1).mean(-1), 2),  # whole rows
        (lambda x: x.view(x.shape[0], 8, 7, 7).mean((2, 3)), 2),  # the whole map
        (lambda x: x.view(x.shape[0], 2, 4, -1).mean(2), 1),  # channels of a group
        (lambda x: x.flatten(2).transpose(1, 2).reshape(x.shape[0], x.shape[2], 2, 4).mean(2), 2),  # heads
        (lambda x: x.norm(dim=1), 2),
        (lambda x: x.logsumexp((2, 3)), 2),
        (lambda x: x.sort(dim=1).values, 2),
        (lambda x: x.view(x.shape[0], *x.shape[1::2], -1), 2),  # of the shape
    ],
)
def test_what_does_not_stride_is_not_listed(then: Callable[[Tensor], Tensor], ndim: int) -> None:
    assert az.plan(Then(then, ndim)).sites == ()


class Held(nn.Module):
    """Calls a convolution that is in a dict within a list, depending on its input's values."""

    def __init__(self) -> None:
        super().__init__()
        self.held = [{"down": nn.Conv2d(3, 8, 3, 2, 1)}]

    def forward(self, x: Tensor) -> Tensor:
        return self.held[0]["down"](x) if x.sum() > 0 else x


def test_modules_in_a_dict_are_listed_where_the_code_cannot_be_traced() -> None:
    (site,) = az.plan(Held()).sites
    assert site.name == ":held.0.down"
    assert "plain list or other container" in site.reason
