"""A plan is right in training and in evaluation, whatever the mode in which it was made."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antialiased_zoo as az
from antialiased_zoo.transform.tracing import Tracer

X = torch.rand(2, 3, 20, 23)


class Auxiliary(nn.Module):
    """In training, a head that strides reads what the convolution returns."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()
        self.head, self.aux = nn.Conv2d(8, 2, 1), nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.down(self.stem(x).relu())
        out = self.head(self.act(x))
        return (out, self.aux(x)) if self.training else (out,)


class SharedActivation(Auxiliary):
    """In training, the nonlinearity that holds a blur in evaluation is called for another map."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        return (self.act(x),) if self.training else (self.act(self.down(x)),)


class Branches(nn.Module):
    """In training, the branches of a sum are also returned one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.other = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 1, 2)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        one, other = self.one(x), self.other(x)
        y = self.act(one + other)
        return (y, one, other) if self.training else (y,)


class Pools(nn.Module):
    """Pools in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        return (self.pool(x),) if self.training else (x,)


@pytest.mark.parametrize("planned_in", [False, True])
@pytest.mark.parametrize("make", [Auxiliary, SharedActivation, Branches, Pools])
def test_both_modes_keep_their_outputs(make: type[nn.Module], planned_in: bool) -> None:
    net = make().train(planned_in)
    mine, blurred = az.antialias(net, 1), az.antialias(net)
    assert {repr(site.placement) for site in az.plan(net).sites} == {
        repr(site.placement) for site in az.plan(make().train(not planned_in)).sites
    }
    for mode in (False, True):
        expected = net.train(mode)(X)
        torch.testing.assert_close(mine.train(mode)(X), expected)
        assert [y.shape for y in blurred.train(mode)(X)] == [y.shape for y in expected]


def test_a_forward_that_replaces_its_class_one_is_read_too() -> None:
    class Patched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, child in Auxiliary().named_children():
                self.add_module(name, child)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return (self.head(self.act(self.down(self.stem(x)))),)

    net = Patched().eval()
    assert str(az.plan(net).sites[0].placement) == "after act"
    Patched.forward = Auxiliary.forward  # type: ignore[assignment, method-assign]
    assert str(az.plan(net).sites[0].placement) == "after down"


def test_every_strided_op_of_both_modes_is_in_the_plan() -> None:
    assert [site.name for site in az.plan(Auxiliary().eval()).sites] == ["down", "aux.0"]
    assert [site.name for site in az.plan(Pools().eval()).sites] == ["pool"]


def test_what_cannot_be_traced_in_the_other_mode_is_noted() -> None:
    class Chooses(Auxiliary):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return (x,) if self.training and x.sum() > 0 else super().forward(x)

    assert any("in training it cannot be traced" in note for note in az.plan(Chooses().eval()).notes)


def test_a_flag_of_dropout_is_no_other_placement(monkeypatch: pytest.MonkeyPatch) -> None:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.act = nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(self.act(self.down(x)), 0.5, self.training)

    read = []
    trace = Tracer.trace_model
    monkeypatch.setattr(Tracer, "trace_model", lambda *args: (read.append(args[2]), trace(*args))[1])
    assert [str(site.placement) for site in az.plan(Drops(), stem_stride=1).sites] == ["after act"]
    assert read.count(False) == 1
