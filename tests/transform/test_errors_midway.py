"""An error at any line that applies a plan leaves the model as it was."""

from __future__ import annotations

import copy
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tool_network import IMAGES, Block, Branches
from torch import Tensor, fx, nn

import antialiased_zoo as az
from antialiased_zoo.transform import apply, downsamplers, graph_form, hosting, links, module_form, structures

MODULES = (apply, downsamplers, hosting, links, module_form, structures)
Line = tuple[str, int]


class InjectedError(BaseException):
    """What the tests raise; like an interrupt, it is caught by nothing on its way."""


@contextmanager
def watched(watch: Callable[[Line], None], modules: tuple[ModuleType, ...]) -> Iterator[None]:
    """Call a function before each line of some files."""
    files = {module.__file__ for module in modules}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in files or frame.f_code.co_name == "_as_before_on_error":
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


def lines_of(run: Callable[[], Any], *modules: ModuleType) -> Counter[Line]:
    """How often each line runs."""
    counts: Counter[Line] = Counter()
    with watched(lambda line: counts.update([line]), modules):
        run()
    assert len(counts) > 30
    return counts


def fails_at_each(lines: Counter[Line], run: Callable[[], Any], *modules: ModuleType) -> Iterator[Line]:
    """Raise an error at one line after the other; of a loop, in the last turn: most is changed by then."""
    for line, count in lines.items():
        left = [count]

        def fail(now: Line, line: Line = line, left: list[int] = left) -> None:
            left[0] -= now == line
            if now == line and left[0] == 0:
                raise InjectedError

        with pytest.raises(InjectedError), watched(fail, modules):
            run()
        yield line


def partly_treated() -> nn.Module:
    """A network some of which was antialiased before, so that there are blurs, hooks and links to spoil."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), Block(), Branches(), nn.MaxPool2d(2)).eval()
    return az.antialias_(net, where=lambda _, name: name.startswith("1."))


def test_an_error_at_any_line_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    net = partly_treated()
    found, after = az.plan(net), az.antialias(net)
    monkeypatch.setattr(apply, "read_plan", lambda *_, **__: found)
    lines = lines_of(lambda: az.antialias_(copy.deepcopy(net)), *MODULES)
    del lines[last_line(apply._antialias)]
    before = everything(net)
    for line in fails_at_each(lines, lambda: az.antialias_(net), *MODULES):
        assert everything(net) == before, line
    with torch.no_grad():
        torch.testing.assert_close(az.antialias_(net)(IMAGES), after(IMAGES))


class Functional(nn.Module):
    """What a graph alone can treat, beside what it need not."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.MaxPool2d(2))
        az.antialias_(self.body, stem_stride=1, kinds=("conv",))
        self.after, self.pools = nn.Conv2d(4, 4, 3, 2), [nn.MaxPool2d(2)]

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.after(self.pools[0](self.body(x)))), 2)


def test_an_error_at_any_line_of_the_graphs_form_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = Functional().eval(), torch.ones(1, 3, 99, 99)
    plans = {graph: az.plan(net, graph=graph) for graph in (False, True)}
    after, output = az.antialias(net, graph=True), net(x)
    assert isinstance(after, fx.GraphModule)
    monkeypatch.setattr(apply, "read_plan", lambda *_, graph=False, **__: plans[graph])
    lines = lines_of(lambda: az.antialias(net, graph=True), graph_form)
    before, tensors = everything(net), copy.deepcopy(net.state_dict())
    for line in fails_at_each(lines, lambda: az.antialias(net, graph=True), graph_form):
        assert everything(net) == before, line
    torch.testing.assert_close(dict(net.state_dict()), dict(tensors))
    torch.testing.assert_close(net(x), output)
    torch.testing.assert_close(az.antialias(net, graph=True)(x), after(x))
