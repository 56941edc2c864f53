"""One module at several places, some of which are hard to see."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import antialiased_zoo as az


def assert_same_places(net: nn.Module, x: Tensor) -> None:
    torch.testing.assert_close(az.antialias(net, 1, kinds=("conv", "maxpool"))(x), net(x))
    assert az.antialias(net)(x).shape == net(x).shape


class Listed(nn.Module):
    """Pools that are also in plain lists."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.MaxPool2d(2)
        self.pools, self.by_name = [self.one], {"two": (self.two,)}

    def forward(self, x: Tensor) -> Tensor:
        return self.by_name["two"][0](self.pools[0](self.conv(x)))


def test_a_pool_is_replaced_in_plain_lists_too() -> None:
    net, x = Listed(), torch.randn(1, 3, 40, 40)
    mine = az.antialias(net)
    assert mine.pools[0] is mine.one
    assert mine.by_name["two"][0] is mine.two
    blurred = az.max_blur_pool2d(az.max_blur_pool2d(net.conv(x), 2), 2)
    torch.testing.assert_close(mine(x), blurred)
    assert type(net.pools[0]) is nn.MaxPool2d


class Loose(nn.Module):
    """Modules that a plain list alone holds, so that they are nobody's children."""

    def __init__(self, traceable: bool = True) -> None:
        super().__init__()
        self.traceable, self.stem, self.down, self.act = traceable, nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), nn.ReLU()
        self.parts = [nn.MaxPool2d(2), nn.Sequential(nn.Conv2d(4, 4, 3, 2), nn.BatchNorm2d(4).eval())]

    def forward(self, x: Tensor) -> Tensor:
        x = self.parts[1](self.parts[0](self.stem(x))) if self.traceable or x.sum() < 1e9 else x
        return self.act(self.down(x))


def test_what_a_plain_list_holds_is_in_the_plan_and_a_graph_treats_it() -> None:
    net, x = Loose(), torch.randn(1, 3, 60, 60)
    plan = az.plan(net)
    assert [(site.kind, bool(site.placement)) for site in plan.sites] == [
        *(("maxpool", False), ("conv", False), ("conv", True))
    ]
    assert all("plain list" in site.reason and "graph=True can" in site.reason for site in plan.skipped)
    assert plan.treated[0].reason == "after the nonlinearity"
    assert [site.kind for site in az.plan(Loose(traceable=False)).sites] == ["maxpool", "conv", "conv"]
    mine = az.antialias(net, 1, graph=True)
    assert all(site.placement for site in az.plan(net, graph=True).sites)
    torch.testing.assert_close(mine(x), net(x))
    assert mine.state_dict().keys() == net.state_dict().keys()


class ReadsValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, 2), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) if x.sum() < 1e9 else x


def test_a_part_that_cannot_be_traced_reads_the_image_only_where_it_is_first() -> None:
    later = nn.Sequential(nn.Conv2d(3, 4, 3), ReadsValues())
    assert str(az.plan(later).sites[0].placement) == "after 1.block.1"
    assert az.plan(ReadsValues()).sites[0].reason.startswith("reads the image")


def run_children(module: nn.Module, x: Tensor) -> Tensor:
    for child in module.children():
        x = child(x)
    return x


class ByHelper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, 2, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(run_children(self, x))


class ByName(ByHelper):
    def forward(self, x: Tensor) -> Tensor:
        for name in self._modules:
            x = self._modules[name](x)
        return x


class ByIndex(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        for index in range(len(self)):
            x = self[index](x)
        return F.relu(x)


class Untraceable(ByHelper):
    def forward(self, x: Tensor) -> Tensor:
        return self.through(x) if x.sum() < 1e9 else x

    def through(self, x: Tensor) -> Tensor:
        return run_children(self, x) if x is None else nn.Sequential(*self.children())(x)


@pytest.mark.parametrize(
    "make", [ByHelper, ByName, lambda: ByIndex(nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU(), nn.BatchNorm2d(4)), Untraceable]
)
def test_a_block_that_goes_over_its_children_holds_no_blur_of_its_own(make: Callable[[], nn.Module]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), make(), nn.Conv2d(4, 4, 1)).eval()
    assert_same_places(net, torch.randn(1, 3, 43, 40))


def test_reading_parameters_is_no_going_over_children() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv(x.to(next(self.parameters()).dtype)))

    end = nn.Sequential(nn.Dropout(), nn.Flatten())
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Reads(), end).eval()
    assert str(az.plan(net).sites[0].placement) in ("after 1", "before 2.0")


class Hidden(nn.Module):
    """Calls what it is given, if the values say so."""

    def __init__(self, conv: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.conv, self.act = conv, act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x)) if x.sum() < 1e9 else x


class Shares(nn.Module):
    """Calls a convolution and an activation, and has them called by code that cannot be traced."""

    def __init__(self, share: str) -> None:
        super().__init__()
        self.stem, self.conv, self.act = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), nn.ReLU()
        self.hidden = Hidden(self.conv if share == "conv" else nn.Conv2d(4, 4, 3, 2), self.act)

    def forward(self, x: Tensor) -> Tensor:
        return self.hidden(self.act(self.conv(self.stem(x))))


@pytest.mark.parametrize("share", ["conv", "act"])
def test_what_hidden_code_calls_too_is_left(share: str) -> None:
    net = Shares(share).eval()
    assert_same_places(net, torch.randn(1, 3, 40, 43))
    if share == "conv":
        assert "cannot be traced may call it" in az.plan(net).sites[0].reason


def test_parts_that_share_an_activation() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            act = nn.ReLU()
            self.one = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), act)
            self.two = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), act, nn.Conv2d(4, 4, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(x)) if x.sum() < 1e9 else x

    assert_same_places(nn.Sequential(nn.Conv2d(3, 4, 3), Parts()).eval(), torch.randn(1, 3, 40, 43))


class InPlace(nn.Module):
    """Two readers of a value that a module changes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(4, 4, 3, 2), nn.ReLU(inplace=True)
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y = self.act(x)
        return self.left(x) + self.right(y)


@pytest.mark.parametrize("graph", [False, True])
def test_a_value_changed_in_place_has_two_names(graph: bool) -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), InPlace(), nn.MaxPool2d(2)).eval(), torch.randn(1, 3, 40, 43)
    torch.testing.assert_close(az.antialias(net, 1, graph=graph)(x), net(x))
    assert len(az.plan(net, graph=graph).treated) == (2 if graph else 1)


def test_wrappers_that_compile_are_looked_through_and_scripts_are_noted() -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2))
    assert len(az.plan(nn.Sequential(torch.compile(body, backend="eager"), nn.MaxPool2d(2))).treated) == 2
    scripted = nn.Sequential(torch.jit.script(body), nn.MaxPool2d(2))
    assert any(note.startswith("0: ") and "TorchScript" in note for note in az.plan(scripted).notes)


class Collects(nn.Module):
    """Keeps the map before each pool, as the encoders of many segmentation networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(
            *(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, 2), nn.ReLU(), nn.AvgPool2d(2))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        kept = []
        for part in self.parts:
            if self.is_pool(part):
                kept.append(x)
            x = part(x)
        return [*kept, x]

    def is_pool(self, part: nn.Module) -> bool:
        return isinstance(part, (nn.MaxPool2d, nn.AvgPool2d))


@functools.singledispatch
def dispatched(_: nn.Module) -> bool:
    return False


@dispatched.register(nn.MaxPool2d)
@dispatched.register(nn.AvgPool2d)
def _(_: nn.Module) -> bool:
    return True


class Visitor:
    def visit(self, part: nn.Module) -> bool:
        return bool(getattr(self, f"visit_{type(part).__name__.lower()}", lambda: False)())

    def visit_maxpool2d(self) -> bool:
        return True

    visit_avgpool2d = visit_maxpool2d


def strides_by_two(part: nn.Module) -> bool:
    return getattr(part, "kernel_size", 3) in (2, (2, 2)) and part.stride in (2, (2, 2))


# Helpers of no class's own code: what they ask of a module is not in the forward that calls them.
ASKS: dict[str, Callable[[nn.Module], bool]] = {
    "isinstance": lambda part: isinstance(part, (nn.MaxPool2d, nn.AvgPool2d)),
    "type": lambda part: type(part) in (nn.MaxPool2d, nn.AvgPool2d),
    "class": lambda part: part.__class__ is nn.MaxPool2d or part.__class__ is nn.AvgPool2d,
    "class name": lambda part: part.__class__.__name__.endswith("Pool2d"),
    "table": lambda part: {nn.MaxPool2d: True, nn.AvgPool2d: True}.get(type(part), False),
    "dispatch": dispatched,
    "visitor": Visitor().visit,
    "text": lambda part: "Pool2d(" in repr(part),
    "window": lambda part: hasattr(part, "ceil_mode"),
    "stride": strides_by_two,
}


class Asks(Collects):
    def __init__(self, ask: str, traceable: bool) -> None:
        super().__init__()
        self.ask, self.traceable = ask, traceable

    def forward(self, x: Tensor) -> list[Tensor]:
        return super().forward(x) if self.traceable or x.sum() < 1e9 else [x]

    def is_pool(self, part: nn.Module) -> bool:
        return ASKS[self.ask](part)


@pytest.mark.parametrize("traceable", [True, False])
@pytest.mark.parametrize("ask", ASKS)
def test_a_model_may_ask_what_its_pools_are(ask: str, traceable: bool) -> None:
    net, x = Asks(ask, traceable), torch.randn(1, 3, 50, 50)
    mine, plain = az.antialias(net), az.antialias(net.parts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing is left
        again = az.antialias(mine)
    for model in (mine, again):
        *kept, end = model(x)
        assert [y.shape for y in (*kept, end)] == [y.shape for y in net(x)]
        torch.testing.assert_close(end, plain(x))  # where nobody asks, pools are replaced
    assert [site.placement.where for site in az.plan(net).treated if site.kind != "conv"] == ["within", "within"]
    torch.testing.assert_close(az.antialias(net, graph=True)(x)[-1], plain(x))


def test_a_pools_own_hook_may_ask_what_the_pool_is() -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)), torch.randn(1, 3, 20, 20)
    net[1].register_forward_hook(lambda pool, _, output: output * (3 if type(pool) is nn.MaxPool2d else 1))
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))
    torch.testing.assert_close(az.antialias(net)(x), 3 * az.MaxBlurPool2d(2)(net[0](x)))


def test_a_pool_that_stays_is_called_by_keyword_and_scripted() -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)), torch.randn(1, 4, 18, 18)
    handle = net[1].register_forward_hook(lambda pool, _, output: None)
    pool = az.antialias_(net)[1]
    handle.remove()
    assert type(pool) is nn.MaxPool2d
    expected = az.MaxBlurPool2d(2)(x)
    assert torch.equal(pool(x), expected)
    assert torch.equal(pool(input=x), expected)
    assert torch.equal(torch.jit.script(pool)(x), expected)


class PoolsTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.pool.register_forward_hook(lambda pool, _, output: 3 * output)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.pool(x), 2)


def test_a_pools_hook_goes_on_in_a_graph() -> None:
    net, x = PoolsTwice(), torch.randn(1, 3, 20, 20)
    mine = az.antialias(net, 1, graph=True)
    assert isinstance(mine, fx.GraphModule)
    torch.testing.assert_close(mine(x), net(x))


class AsksStride(Asks):
    def is_pool(self, part: nn.Module) -> bool:
        return strides_by_two(part)


@pytest.mark.parametrize("traceable", [True, False])
def test_a_convolution_whose_stride_a_helper_reads_keeps_it(traceable: bool) -> None:
    net, x = AsksStride("stride", traceable), torch.ones(1, 3, 50, 50)
    net.parts[3] = nn.Conv2d(4, 4, 2, 2)
    assert [(site.name, "may read its stride" in site.reason) for site in az.plan(net).skipped] == [
        ("parts.3", not traceable)
    ]
    assert [y.shape for y in az.antialias(net)(x)] == [y.shape for y in net(x)]


class ReadsStride(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU()
        self.other = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        return self.other(F.interpolate(x, scale_factor=float(self.conv.stride[0])))


def test_a_convolution_whose_stride_is_read_keeps_it() -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), ReadsStride()), torch.randn(1, 3, 34, 34)
    conv, other, *_ = az.plan(net).sites
    assert "reads its stride" in conv.reason
    assert "graph=True can" in conv.reason
    assert other.placement is not None
    for graph in (False, True):
        torch.testing.assert_close(az.antialias(net, 1, graph=graph)(x), net(x))
