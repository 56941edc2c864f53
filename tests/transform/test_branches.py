"""The plan follows the branches that an ordinary call takes, and those that optional arguments choose."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, is_tensor, nn

import antialiased_zoo as az

X = torch.rand(1, 3, 20, 23)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()


class Gated(Net):
    """Without a gate it returns what the convolution returns."""

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        x = self.down(self.stem(x).relu())
        return x if gate is None else self.act(x) * gate


class Chosen(Net):
    """The caller chooses a map that is not followed by the nonlinearity."""

    def forward(self, x: Tensor, *, features: bool = False) -> Tensor:
        x = self.down(self.stem(x).relu())
        return x if features else self.act(x)


class Scaled(Net):
    def forward(self, x: Tensor, scale: float = 1.0, features: bool = False) -> Tensor:
        x = self.down(self.stem(x).relu())
        return x * scale if features else self.act(x)


@pytest.mark.parametrize(
    ("net", "given"),
    [
        (Gated(), {"gate": torch.rand(1, 8, 10, 12)}),
        (Chosen(), {"features": True}),
        (Scaled(), {"scale": 2.0, "features": True}),
    ],
)
def test_optional_arguments_are_read_both_ways(net: nn.Module, given: dict[str, Any]) -> None:
    mine = az.antialias(net, 1)
    assert len(az.plan(net).treated) == 1
    for arguments in ({}, given):
        torch.testing.assert_close(mine(X, **arguments), net(X, **arguments))


class Both(Net):
    """Two arguments together choose a map, or one of them in training."""

    def forward(self, x: Tensor, features: bool = False, raw: bool = False) -> Tensor:
        x = self.down(self.stem(x).relu())
        return x if features and (raw or self.training) else self.act(x)


@pytest.mark.parametrize("training", [False, True])
def test_arguments_are_read_together_and_in_both_modes(training: bool) -> None:
    net = Both().train(training)
    mine = az.antialias(net, 1)
    for mode in (False, True):
        for given in ({"features": True}, {"features": True, "raw": True}):
            torch.testing.assert_close(mine.train(mode)(X, **given), net.train(mode)(X, **given))


def test_an_argument_that_changes_no_placement_costs_none() -> None:
    class Masked(Net):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            x = self.act(self.down(self.stem(x)))
            return x if mask is None else x * mask

    assert [str(site.placement) for site in az.plan(Masked()).sites] == ["after act"]


def test_an_argument_that_the_code_needs_is_given() -> None:
    class Needs(Net):
        def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
            return torch.cat([self.act(self.down(self.stem(x))), skip], 1)

    net, skip = Needs(), torch.rand(1, 8, 10, 12)
    assert [str(site.placement) for site in az.plan(net).sites] == ["after act"]
    torch.testing.assert_close(az.antialias(net, 1)(X, skip), net(X, skip))


def test_a_forward_without_a_signature_is_reported() -> None:
    builtin = type("Builtin", (Net,), {"forward": torch.relu})
    assert "cannot be traced" in az.plan(builtin()).notes[0]


def asks(x: Any) -> bool:
    return isinstance(x, Tensor)


class Asks(Net):
    """Asks what a value is, in a way given to it."""

    def __init__(self, question: Callable[[Any], bool]) -> None:
        super().__init__()
        self.question = question

    def forward(self, x: Any) -> Tensor:
        x = self.down(self.stem(x).relu())
        return x if self.question(x) else self.act(x)


QUESTIONS: dict[str, Callable[[Any], bool]] = {
    "isinstance": asks,
    "is_tensor": lambda x: torch.is_tensor(x),
    "by name": lambda x: is_tensor(x),
    "one of several": lambda x: isinstance(x, (list, tuple, torch.Tensor)),
    "no list": lambda x: not isinstance(x, (list, tuple)),
    "size": lambda x: (
        isinstance(x.shape, torch.Size) and isinstance(x.size(2), int) and isinstance(x.shape[2] // 2, int)
    ),
    "parts": lambda x: isinstance(x.chunk(2, 1)[0], torch.Tensor) and not isinstance(x, nn.Module),
    "sum": lambda x: isinstance(x + 1, torch.Tensor) and isinstance(x.mean(), torch.Tensor),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_questions_for_a_values_class_are_answered_as_in_a_call(question: Callable[[Any], bool]) -> None:
    net = Asks(question)
    (site,) = az.plan(net).sites
    assert str(site.placement) == "after down"
    torch.testing.assert_close(az.antialias(net, 1)(X), net(X))


def test_where_the_class_is_not_known_the_parts_are_read() -> None:
    class Part(Net):
        """Takes a tensor or a list of tensors."""

        def forward(self, x: Any) -> Tensor:
            x = self.down(self.stem(x if isinstance(x, Tensor) else torch.cat(x)))
            return self.act(x)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = Part()

        def forward(self, x: Tensor) -> Tensor:
            return self.part([x, x]) if x.sum() < 1e9 else x

    plan, net = az.plan(Outer()), Outer()
    assert any("is not known" in note for note in plan.notes)
    assert isinstance(net(X), Tensor)


class WithMask(nn.Conv2d):
    """Returns two maps, as partial convolutions do."""

    def forward(self, x: Tensor) -> Any:
        x = super().forward(x)
        return x, x.abs()


class TakesBoth(Net):
    """Takes a map, or two without a nonlinearity; tells them apart in a way given to it."""

    def __init__(self, question: Callable[[Any], bool] = lambda x: isinstance(x, tuple)) -> None:
        super().__init__()
        self.question = question

    def forward(self, x: Any) -> Tensor:
        if self.question(x):
            return self.down(x[0])
        return self.act(self.down(x))


class WithMaskNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), None


@pytest.mark.parametrize("more", [[], [nn.Identity()], [nn.Identity(), nn.Identity()]])
@pytest.mark.parametrize("first", [[WithMask(3, 8, 3, padding=1)], [nn.Conv2d(3, 8, 1), WithMaskNorm(8)]])
def test_a_layer_with_a_forward_of_its_own_may_return_anything(first: list[nn.Module], more: list[nn.Module]) -> None:
    net = nn.Sequential(*first, *more, TakesBoth())
    assert az.antialias(net)(X).shape == net(X).shape
    assert re.search(r"asks whether _\d is a tuple, which is not known", az.plan(net).notes[0])


TUPLE_OR_NOT: dict[str, Callable[[Any], bool]] = {
    "type": lambda x: type(x) is tuple,
    "types": lambda x: type(x) in (list, tuple),
    "attribute": lambda x: not hasattr(x, "shape"),
    "attribute or default": lambda x: getattr(x, "shape", None) is None,
}


@pytest.mark.parametrize("question", TUPLE_OR_NOT.values(), ids=TUPLE_OR_NOT)
def test_types_and_attributes_are_questions_for_the_class_too(question: Callable[[Any], bool]) -> None:
    unknown = nn.Sequential(WithMask(3, 8, 3, padding=1), TakesBoth(question))
    assert az.antialias(unknown)(X).shape == unknown(X).shape
    assert "which is not known" in az.plan(unknown).notes[0]
    known = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), TakesBoth(question))
    assert str(az.plan(known).treated[0].placement) == "after 1.act"


def test_a_tensor_has_the_attributes_that_code_gave_it_and_no_others() -> None:
    class Reads(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            x = x.logits if hasattr(x, "logits") else x
            x = self.down(x if getattr(x, "mask", None) is None else self.act(x))
            x.label = "a"  # type: ignore[attr-defined]
            kind = type("Kind", (), {}) if isinstance(type(self), type) else type
            return self.act(x) if hasattr(x, "label") and type(kind()).__name__ == "Kind" else x

    net = Reads()
    assert [str(site.placement) for site in az.plan(net).treated] == ["after act"]
    torch.testing.assert_close(az.antialias(net, 1)(X), net(X))


QUESTIONS: dict[str, Callable[[Tensor], bool]] = {
    "callable": lambda x: not callable(x),
    "of a class": lambda x: hasattr(x, "__name__"),
    "of a class or default": lambda x: getattr(x, "mro", None) is None,
    "a number's attributes": lambda x: hasattr(x.shape[2], "__len__") or isinstance(x.shape[2], Iterable),
    "a quotient": lambda x: type(x.shape[2] / 2) is float,
    "a number": lambda x: isinstance(torch.numel(x), int),
    "no proxy's class": lambda x: isinstance(x, (Tensor, str)) and not isinstance(x, fx.proxy.Attribute),
    "one of two": lambda x: isinstance(torch.where(x > 0, x, 0), tuple),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_questions_are_answered_as_the_values_would_answer(question: Callable[[Tensor], bool]) -> None:
    answers: list[bool] = []

    class Asks(Net):
        def forward(self, x: Tensor) -> Tensor:
            answers.append(question(x))
            return self.act(self.down(self.stem(x)))

    assert az.plan(Asks()).treated
    assert set(answers) == {question(X)}


NOT_KNOWN: dict[str, Callable[[Tensor], bool]] = {
    "indices": lambda x: isinstance(F.max_pool2d(x, 2, return_indices=True), tuple),
    "positions": lambda x: isinstance(torch.where(x > 0), tuple),
    "positions as a tuple": lambda x: isinstance(x.nonzero(as_tuple=True), tuple),
    "several": lambda x: isinstance(torch.broadcast_tensors(x, x), (list, tuple)),
    "numbers": lambda x: isinstance(x.tolist()[0], list),
    "truth": lambda x: isinstance(x.is_signed(), bool),
}


@pytest.mark.parametrize("question", NOT_KNOWN.values(), ids=NOT_KNOWN)
def test_what_is_no_tensor_is_not_taken_for_one(question: Callable[[Tensor], bool]) -> None:
    class Asks(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.down(self.stem(x)) if question(x) else x

    assert "which is not known" in az.plan(Asks()).notes[0]


def test_attributes_of_other_objects_are_asked_for_once() -> None:
    class Reads(Net):
        asked = traced = 0

        @property
        def scale(self) -> float:
            type(self).asked += 1
            return 2.0

        def forward(self, x: Tensor) -> Tensor:
            type(self).traced += 1
            return self.act(self.down(self.stem(x))) * getattr(self, "scale", 1.0)

    az.plan(Reads())
    assert Reads.asked == Reads.traced > 0


LAYERS = [
    nn.LayerNorm(8),
    nn.Dropout(),
    nn.MaxPool2d(2),
    nn.PReLU(),
    nn.SyncBatchNorm(8),
    az.Downsample(8),
    nn.Identity(),
    nn.ZeroPad2d(1),
    nn.AdaptiveMaxPool2d(1),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_torchs_layers_return_a_tensor(layer: nn.Module) -> None:
    plan = az.plan(nn.Sequential(nn.Conv2d(3, 8, 1), layer, TakesBoth()))
    assert str(plan.sites[-1].placement) == "after 2.act"


@pytest.mark.parametrize("layer", [nn.MaxPool2d(2, return_indices=True), nn.GRU(8, 8)])
def test_some_of_torchs_layers_return_several(layer: nn.Module) -> None:
    assert "which is not known" in az.plan(nn.Sequential(nn.Conv2d(3, 8, 1), layer, TakesBoth())).notes[0]
