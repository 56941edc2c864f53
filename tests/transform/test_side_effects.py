"""Planning leaves no trace outside the model: in caches and counters, hooks, and random number generators."""

from __future__ import annotations

import functools
import gc
import random
import threading
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable, MutableMapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import antialiased_zoo as az

CACHE: dict[str, Any] = {}
TOTAL = torch.zeros(())


@functools.lru_cache
def cached_filter() -> Tensor:
    return torch.ones(8, 1, 3, 3) / torch.rand(8, 1, 1, 1)


class Net(nn.Module):
    """A strided convolution after a fixed filter that the code keeps somewhere."""

    shared: ClassVar[dict[str, Any]] = {}

    def __init__(self, keep: Callable[[type[Net], Tensor], Tensor]) -> None:
        super().__init__()
        self.keep, self.stem, self.act = keep, nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        self.down = nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(self.stem(x), self.keep(type(self), x), padding=1, groups=8)
        return self.act(self.down(x))


def in_module(_: type[Net], x: Tensor) -> Tensor:
    if "filter" not in CACHE:
        CACHE["filter"] = {"nested": torch.ones(8, 1, 3, 3).to(x)}
    return CACHE["filter"]["nested"]


def in_class(cls: type[Net], x: Tensor) -> Tensor:
    return cls.shared.setdefault("filter", torch.ones(8, 1, 3, 3).to(x))


def as_attribute(cls: type[Net], x: Tensor) -> Tensor:
    cls.last = torch.ones(8, 1, 3, 3).to(x)
    return cls.last


def as_default(cls: type[Net], x: Tensor, kept: dict[str, Tensor] = {}) -> Tensor:  # noqa: B006
    return kept.setdefault("filter", torch.ones(8, 1, 3, 3).to(x))


def as_global(cls: type[Net], x: Tensor) -> Tensor:
    global TOTAL
    TOTAL = TOTAL + x.sum()
    return torch.ones(8, 1, 3, 3)


def by_function(cls: type[Net], x: Tensor) -> Tensor:
    return cached_filter()


@pytest.mark.parametrize("keep", [in_module, in_class, as_attribute, as_default, as_global, by_function])
def test_caches_hold_no_value_of_a_trace(keep: Callable[[type[Net], Tensor], Tensor]) -> None:
    CACHE.clear()
    net, x = Net(keep).eval(), torch.rand(1, 8, 20, 23)
    assert [str(site.placement) for site in az.plan(net).sites] == ["after act"]
    assert isinstance(TOTAL, Tensor)
    assert type(net(x)) is Tensor
    torch.testing.assert_close(az.antialias(net, 1, stem_stride=1)(x), net(x))


def test_what_another_thread_keeps_meanwhile_stays() -> None:
    def keep(cls: type[Net], x: Tensor) -> Tensor:
        CACHE["theirs"] = 1
        kept.append("theirs")
        kept.append(x)
        return in_module(cls, x)

    kept: list[object] = ["before"]
    CACHE.clear()
    az.plan(Net(keep))
    assert CACHE == {"theirs": 1}
    assert kept[0] == "before"
    assert set(kept[1:]) == {"theirs"}  # once for each reading


def test_a_model_that_was_planned_can_be_collected() -> None:
    class Caches(Block):
        def __init__(self) -> None:
            super().__init__()
            self.size = functools.lru_cache(lambda _: self.down.kernel_size[0])

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.size(0)

    net = Caches()
    az.plan(net)
    found = weakref.ref(net), weakref.ref(Caches)
    del net, Caches
    gc.collect()
    assert [ref() for ref in found] == [None, None]


class Mean:
    """A hook that adds up what it sees."""

    def __init__(self) -> None:
        self.total: Any = 0.0

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.total = self.total + output.mean()


class Block(nn.Module):
    """Its nonlinearity is a function, so its blur goes after the block."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.down(x))


@pytest.mark.parametrize("block", [Block, lambda: nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())])
def test_hooks_are_not_run_and_see_the_blurred_map(block: Callable[[], nn.Module]) -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), block(), nn.Conv2d(8, 8, 1)), torch.rand(1, 3, 20, 23)
    mean, seen = Mean(), list[Tensor]()
    net[1].register_forward_hook(lambda module, args, output: seen.append(output))
    net[1].register_forward_hook(mean)
    net[1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    plan = az.plan(net)
    assert (seen, mean.total) == ([], 0.0)
    assert len(plan.treated) == 1
    assert any("the hook Mean" in note for note in plan.notes)
    net(x)
    shapes = [tensor.shape for tensor in seen]
    seen.clear()
    torch.testing.assert_close(az.antialias_(net, 1)(x).shape[2:], shapes[1][2:])
    assert [tensor.shape for tensor in seen] == shapes


def test_a_value_that_a_hook_reads_is_not_followed_past_it() -> None:
    """The hook may keep the map, so it has to be subsampled already."""
    inner, x, seen = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1)), torch.rand(1, 3, 20, 23), list[Any]()
    inner.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), inner, nn.ReLU())
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))
    assert seen[0] == seen[1]


def test_a_graph_says_that_it_calls_no_hook() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Block())
    net[1].register_forward_hook(lambda module, args, output: 2 * output)
    with pytest.warns(UserWarning, match="runs without the hooks of modules that become several ops"):
        az.antialias(nn.Sequential(net, Pools()), graph=True)


class Pools(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2)


class Layers(nn.Module):
    """Runs some of its layers in training, as chance decides."""

    def __init__(self, chance: Callable[[], float]) -> None:
        super().__init__()
        self.chance, self.stem, self.down = chance, nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(Block(), nn.ReLU())
        self.rest = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(self.stem(x))
        for layer in self.rest:
            x = layer(x) if not self.training or self.chance() > 0.5 else x
        return x


OWN, NUMPYS = random.Random(0), np.random.default_rng(0)
CHANCES = [
    lambda: random.random(),
    lambda: np.random.rand(),
    random.random,
    lambda: OWN.random(),
    lambda: NUMPYS.random(),
    random.Random(0).random,
    np.random.RandomState(0).rand,
]


def states() -> list[str]:
    generators = (random.getstate(), np.random.get_state(), OWN.getstate(), NUMPYS.bit_generator.state)
    return list(map(repr, generators))


@pytest.mark.parametrize("chance", CHANCES)
def test_chance_is_no_control_flow_to_follow(chance: Callable[[], float]) -> None:
    net = Layers(chance).train()
    before, theirs = states(), torch.get_rng_state()
    plan = az.plan(net)
    assert before == states()
    assert torch.equal(theirs, torch.get_rng_state())
    assert "chance" in plan.notes[0]
    assert [str(site.placement) for site in plan.sites] == ["after down.1"]
    assert not any(isinstance(value, fx.Proxy) for value in vars(net).values())


def test_other_threads_draw_meanwhile() -> None:
    """They may run code under the same global names, for example a data set's."""
    drawn: list[float] = []

    class Draws(Block):
        def forward(self, x: Tensor) -> Tensor:
            thread = threading.Thread(target=lambda: drawn.extend((random.random(), OWN.random(), np.random.rand())))
            thread.start()
            thread.join()
            return super().forward(x)

    assert len(az.plan(nn.Sequential(Draws()), stem_stride=1).treated) == 1
    assert len(drawn) % 3 == 0 < len(drawn)


class Stored(MutableMapping[str, Any]):
    """A mapping whose items cannot be read, such as a closed file's."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __getitem__(self, name: str) -> Any:
        raise OSError

    __setitem__ = __delitem__ = __iter__ = __len__ = __getitem__  # type: ignore[assignment]


STORED = Stored()


def test_a_global_mapping_is_not_read_and_keeps_no_value_of_a_trace() -> None:
    class Stores(Block):
        def forward(self, x: Tensor) -> Tensor:
            STORED.seen.append(x)
            return super().forward(x)

    assert [str(site.placement) for site in az.plan(nn.Sequential(Stores()), stem_stride=1).sites] == ["after 0"]
    assert STORED.seen == []


class MissingPackage:
    """Stands for a package that is not installed, as MONAI's `optional_import` returns."""

    def __getattr__(self, name: str) -> Any:
        raise ImportError(f"{name} of a package that is not installed")

    def __call__(self) -> Any:
        raise ImportError("the package is not installed")


optional: Any = None  # while pytest looks for tests: it asks the module's values for attributes


def test_an_optional_package_that_is_not_installed_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "optional", MissingPackage())
    net = Net(lambda *_: optional() if CACHE is None else torch.ones(8, 1, 3, 3))
    net.kernels = optional  # type: ignore[assignment]
    plan = az.plan(net)
    assert [str(site.placement) for site in plan.sites] == ["after act"]
    assert not plan.notes


class Frozen(OrderedDict[str, Any]):
    """A configuration, like diffusers' `FrozenDict`: its items are attributes, and it refuses changes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        vars(self).update(self)

    def update(self, *_: Any, **__: Any) -> None:
        raise TypeError("frozen")


class Refusing(Frozen):
    def __setitem__(self, key: str, value: Any) -> None:
        if vars(self):
            raise TypeError("frozen")
        super().__setitem__(key, value)


class ItsOwnCopy(Refusing):
    """Like the class of the package frozendict."""

    def __copy__(self) -> ItsOwnCopy:
        return self

    copy = __copy__  # type: ignore[assignment]


@pytest.mark.parametrize("config", [Frozen(padding=1), Refusing(padding=1), ItsOwnCopy(padding=1)])
def test_a_configuration_that_refuses_changes_is_read(config: Any) -> None:
    class Configured(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(F.pad(x, [self.config.padding] * 4))

    net = Configured(lambda *_: torch.ones(8, 1, 3, 3))
    net.config = config
    plan = az.plan(net)
    assert [str(site.placement) for site in plan.sites] == ["after act"]
    assert not plan.notes


@pytest.mark.parametrize("cls", [Frozen, Refusing, ItsOwnCopy])
def test_a_dictionary_of_somebodys_own_keeps_no_value_of_a_trace(cls: type[Frozen]) -> None:
    class Keeps(Net):
        def forward(self, x: Tensor) -> Tensor:
            self.kept["last"] = self.layers["stem"](x)
            return super().forward(self.kept["last"])

    net = Keeps(lambda *_: torch.ones(8, 1, 3, 3))
    net.kept, net.layers = defaultdict[str, Any](list), cls(stem=net.stem)  # type: ignore[assignment]
    assert len(az.plan(net).treated) == 1
    assert not net.kept
    assert net.layers["stem"] is net.stem
