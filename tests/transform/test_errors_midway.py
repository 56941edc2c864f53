"""An error at any line that applies a plan leaves the model as it was."""

from __future__ import annotations

import copy
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
import torch
from tool_table import IMAGES, Block, Branches
from torch import nn

import antialiased_zoo as az
from antialiased_zoo.transform import apply, downsamplers, hosting, structures

FILES = {module.__file__ for module in (apply, downsamplers, hosting, structures)}
Line = tuple[str, int]


class InjectedError(Exception):
    """What the tests raise."""


@contextmanager
def watched(watch: Callable[[Line], None]) -> Iterator[None]:
    """Call a function before each line of the files that apply a plan."""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in FILES or frame.f_code.co_name == "_as_before_on_error":
            return None
        if event == "line":
            watch((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def everything(model: nn.Module) -> list[Any]:
    """All that a model's modules hold, with what is in their dicts, lists and links."""
    found: list[Any] = []
    for module in model.modules():
        for name, value in vars(module).items():
            content = list(value.items()) if isinstance(value, dict) else list(value) if type(value) is list else None
            links = [dict(vars(link)) for link in value] if name == "_blur_links" else None
            found.append((id(module), name, id(value), content, links))
    return found


def last_line(function: Callable[..., Any]) -> Line:
    """Its ``return``, when all is done."""
    return function.__code__.co_filename, max(line for *_, line in function.__code__.co_lines() if line is not None)


def partly_treated() -> nn.Module:
    """A network some of which was antialiased before, so that there are blurs, hooks and links to spoil."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), Block(), Branches(), nn.MaxPool2d(2)).eval()
    return az.antialias_(net, where=lambda _, name: name.startswith("1."))


def test_an_error_at_any_line_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    net = partly_treated()
    found, after = az.plan(net), az.antialias(net)
    monkeypatch.setattr(apply, "plan", lambda *_, **__: found)
    counts: Counter[Line] = Counter()
    with watched(lambda line: counts.update([line])):
        az.antialias_(copy.deepcopy(net))
    before = everything(net)
    assert len(counts) > 60
    del counts[last_line(apply.antialias_)]
    for line, count in counts.items():
        left = [count]  # of a loop, the last turn: most is changed by then

        def fail(now: Line, line: Line = line, left: list[int] = left) -> None:
            left[0] -= now == line
            if now == line and left[0] == 0:
                raise InjectedError

        with pytest.raises(InjectedError), watched(fail):
            az.antialias_(net)
        assert everything(net) == before, line
    with torch.no_grad():
        torch.testing.assert_close(az.antialias_(net)(IMAGES), after(IMAGES))
