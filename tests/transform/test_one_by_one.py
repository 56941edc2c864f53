"""Code that cannot be traced and calls the modules inside a part itself, without the part's forward."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import antialiased_zoo as az


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))

    def before_act(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Net(nn.Module):
    """What calls the parts is a function of the model, the input and the maps to return."""

    def __init__(self, run: Callable[[Any, Tensor, list[Tensor]], Tensor]) -> None:
        super().__init__()
        self.run, self.stem = run, nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.blocks, self.block = nn.ModuleList([Block()]), Block()
        self.plain, self.runner = [*self.layers], Runner(self.block)

    @property
    def first_part(self) -> nn.Module:
        return self.block

    @functools.cached_property
    def kept_part(self) -> nn.Module:
        return self.block

    def forward(self, x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        x = self.stem(x.repeat(1, 3, 1, 1) if x.shape[1] == 1 else x)
        return [self.run(self, x, found), *found]


def over(model: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    for layer in model.layers:
        x = layer(x)
        found.append(x)
    return x


def by_number(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    for i in range(len(self.layers)):
        x = self.layers[i](x)
        found.append(x)
    return x


def first_ones(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    return self.layers[:1](x)


def by_name(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    for block in [self.block, *self.blocks]:
        found.append(block.conv(x))
    return x


def by_method(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    return self.block.before_act(x)


def through_list(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    conv, *_ = self.plain
    return conv(x)


def run_all(layers: Any, x: Tensor) -> Tensor:
    return functools.reduce(lambda y, layer: layer(y), list(layers)[:1], x)


def by_helper(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    return run_all(self.layers, x)


def by_children(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    return next(self.layers.children())(x)


def by_getattr(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    part = getattr(self, "layers")  # noqa: B009
    return part[0](x)


def by_path(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    return self.get_submodule("layers.0")(x)


def inside_a_condition(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    return layers[0](x) if (layers := self.layers) is not None else x


def in_a_function_inside(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    block = self.block

    def first(y: Tensor) -> Tensor:
        return block.conv(y)

    return first(x)


def in_a_default(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    return (lambda block=self.block: block.conv(x))()


def in_a_map(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    return next(map(lambda block: block.conv(x), self.blocks))  # noqa: C417


def parts_of(self: Any) -> Iterator[tuple[str, nn.Module]]:
    yield from (("part", block) for block in self.blocks)
    yield "last", self.block


def by_generator(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    found += [part.conv(x) for _, part in parts_of(self)]
    return x


def by_attribute(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    self.current = [self.block]
    return self.current[0].conv(x)


class Runner:
    def __init__(self, block: Any) -> None:
        self.block = block

    def run(self, x: Tensor) -> Tensor:
        return self.block.conv(x)


def by_object(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    return self.runner.run(x)


RUNS = [over, by_number, first_ones, by_name, by_method, through_list, by_helper, by_children, by_getattr, by_path]
RUNS += [inside_a_condition, in_a_function_inside, in_a_default, in_a_map, by_generator, by_attribute, by_object]
RUNS += [lambda self, x, found: self.block.conv(x), lambda self, x, found: self.first_part.conv(x)]
RUNS += [lambda self, x, found: self.kept_part.conv(x)]


@pytest.mark.parametrize("run", RUNS)
def test_a_convolution_that_is_called_alone_is_blurred_alone(run: Callable[..., Tensor]) -> None:
    net, x = Net(run).eval(), torch.rand(1, 3, 20, 23)
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))
    assert [y.shape for y in az.antialias(net)(x)] == [y.shape for y in net(x)]
    assert any(str(site.placement) == f"after {site.name}" for site in az.plan(net).treated)


def whole(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    return self.layers(x)


def each_block(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    for i, block in enumerate(self.blocks):
        x = block(x) if i < 2 and isinstance(block, Block) else x
    return self.block(x)


def checkpointed(self: Any, x: Tensor, found: list[Tensor]) -> Tensor:
    return torch.utils.checkpoint.checkpoint(self.layers, x, use_reentrant=False)


@pytest.mark.parametrize("run", [whole, each_block, checkpointed])
def test_parts_that_are_called_as_a_whole_are_read_as_a_whole(run: Callable[..., Tensor]) -> None:
    net, x = Net(run).eval(), torch.rand(1, 3, 20, 23)
    assert [str(site.placement) for site in az.plan(net).sites] == [
        "after layers.1",
        "after blocks.0.act",
        "after block.act",
    ]
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))


def test_code_without_a_source_may_call_everything() -> None:
    net, x, names = Net(whole).eval(), torch.rand(1, 3, 20, 23), dict[str, Any]()
    exec("def run(self, x, found):\n    return self.layers[0](x)", names)
    net.run = names["run"]
    assert {str(site.placement) == f"after {site.name}" for site in az.plan(net).sites} == {True}
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))
