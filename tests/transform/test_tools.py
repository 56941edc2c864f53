"""Tools that replace modules of an antialiased network: the blur is put back, or an error says what was lost."""

from __future__ import annotations

import copy
import importlib.util
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tool_table
import torch
from tool_network import IMAGES, Block, network
from tool_table import TOOLS, outcomes
from torch import Tensor, nn

import antialiased_zoo as az
from antialiased_zoo.errors import LostBlurError
from antialiased_zoo.transform import links

PAGE = Path(__file__).parents[2] / "docs" / "tools.md"


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_the_table_says_what_happens(tool: tool_table.Tool) -> None:
    if importlib.util.find_spec(tool.needs) is None:
        pytest.skip(f"needs {tool.needs}")
    row = f"| {tool.name} | {' | '.join(outcomes(tool))} |"
    assert row in PAGE.read_text().splitlines()
    assert "WRONG" not in row


def test_the_table_has_every_tool_and_no_wrong_row() -> None:
    page = PAGE.read_text()
    assert [name for name in (tool.name for tool in TOOLS) if f"| {name} |" not in page] == []
    assert "WRONG" not in page


def relu6_by_name(net: nn.Module) -> None:
    net.block.act = nn.Hardswish()


def by_pickle(net: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(net))


@pytest.mark.parametrize("copied", [lambda net: net, copy.deepcopy, by_pickle])
def test_a_lost_blur_is_noticed_by_copies_too_and_listed_by_the_plan(copied: Callable[[nn.Module], nn.Module]) -> None:
    expected = network()
    relu6_by_name(expected)
    expected = az.antialias(expected)(IMAGES)
    net = copied(az.antialias(network()))
    relu6_by_name(net)
    assert any("block: the blur after act is no longer in place" in note for note in az.plan(net).notes)
    repaired = az.antialias_(copy.deepcopy(net))
    assert not any("no longer in place" in note for note in az.plan(repaired).notes)
    torch.testing.assert_close(net(IMAGES), expected)
    torch.testing.assert_close(repaired(IMAGES), expected)


def test_a_compiled_network_notices_too() -> None:
    net = az.antialias(network())
    relu6_by_name(net)
    expected = copy.deepcopy(net)(IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(net, backend="eager")(IMAGES), expected)


def test_what_cannot_be_mended_says_what_was_lost() -> None:
    net = az.antialias(network())
    net.block.conv = nn.Conv2d(8, 8, 3, 4, 1)
    with pytest.raises(LostBlurError, match=r"conv gave its stride to a blur after act.*has the stride \(4, 4\) now"):
        net(IMAGES)
    del net.block.act
    with pytest.raises(LostBlurError, match="antialias"):
        az.antialias_(net)


def test_a_compiled_wrapper_sees_a_blur_that_came_later() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1)).eval()
    compiled = torch.compile(net, backend="eager")
    with torch.no_grad():
        compiled(IMAGES)
        az.antialias_(net, placement="before_conv")
        torch.testing.assert_close(compiled(IMAGES), net(IMAGES))


@pytest.mark.parametrize("options", [{}, {"placement": "before_conv"}, {"upsample": 3}], ids=str)
@pytest.mark.parametrize("plain_first", [True, False])
def test_compiled_code_is_not_mixed_up_between_a_network_and_its_copy(options: Any, plain_first: bool) -> None:
    torch.compiler.reset()
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()).eval()
    net.append(nn.Upsample(scale_factor=2))
    both = [net, az.antialias(net, **options)]
    with torch.no_grad():
        for one in both if plain_first else reversed(both):
            torch.testing.assert_close(torch.compile(one, backend="eager")(IMAGES), one(IMAGES))


def test_making_a_network_leaves_compiled_code_of_others_alone() -> None:
    compilations = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        compilations.append(graph)
        return graph.forward

    step = torch.compile(lambda x: x * 2, backend=backend)
    step(IMAGES)
    az.resnet18(num_classes=2)
    az.antialias(network())
    step(IMAGES)
    assert len(compilations) == 1


def test_branches_share_one_blur_behind_their_sum() -> None:
    net = network()
    plan = az.plan(net)
    assert {s.name: (str(s.placement), s.shares) for s in plan.treated if "branches" in s.name} == {
        "branches.one": ("after branches.act", ""),
        "branches.two": ("after branches.act", "branches.one"),
    }
    torch.testing.assert_close(az.antialias(net, 1)(IMAGES), net(IMAGES), rtol=1e-4, atol=1e-5)


def test_scripts() -> None:
    class Pools(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.stem = Block(), nn.Conv2d(3, 8, 3)
            self.pool = nn.MaxPool2d(3, 2, 1, ceil_mode=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.block(self.stem(x)))

    for pad_type in ("reflect", "replicate", "zero"):
        net = az.antialias(Pools().eval(), 5, pad_type=pad_type)
        images = [torch.randn(2, 3, *size) for size in ((32, 32), (29, 34))]
        expected = [net(x) for x in images]
        scripted = torch.jit.script(net)
        for x, y in zip(images, expected, strict=True):
            torch.testing.assert_close(scripted(x), y, rtol=1e-4, atol=1e-5)


def test_links_follow_their_blur() -> None:
    net = az.antialias(network())
    twin = copy.deepcopy(net)
    (link,) = links.links_of(twin.block)
    assert link.blur is twin.block.act.blur_after is not net.block.act.blur_after
