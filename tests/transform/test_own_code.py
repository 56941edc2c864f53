"""Code that cannot be traced: what of it counts as reading a module's stride."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import antialiased_zoo as az


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.repeat(1, 3, 1, 1) if x.shape[1] == 1 else x)


def treated(net: nn.Module) -> bool:
    """True if the convolution is treated; with filter size 1 the outputs stay either way."""
    x = torch.rand(1, 3, 20, 23)
    (site,) = az.plan(net).sites
    if site.placement is not None:
        torch.testing.assert_close(az.antialias(net, 1)(x), net(x))
    return site.placement is not None


def strides_of(tensor: Tensor) -> Any:
    return tensor.stride()


class AsksATensor(Untraceable):
    """A tensor's stride is no module's."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if strides_of(x)[-1] == 1 else super().forward(x.contiguous())


class SetsUp(Untraceable):
    """Reads strides when it is made, and where weights are loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.total = self._count(self.body)

    def _count(self, body: nn.Module) -> int:
        return sum(m.stride[0] for m in body.modules() if isinstance(m, nn.Conv2d))

    def load(self, path: str) -> int:
        return getattr(self, path)(self.body) + self._count(self.body)


class Log:
    def load(self, x: Tensor) -> None:
        pass


class LogsAndSetsUp(SetsUp):
    """Names a method of another object that is also one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()

    def forward(self, x: Tensor) -> Tensor:
        self.log.load(x)
        return super().forward(x)


@pytest.mark.parametrize("make", [AsksATensor, SetsUp, LogsAndSetsUp])
def test_a_tensors_stride_and_code_that_forward_does_not_reach_do_not_count(make: Callable[[], nn.Module]) -> None:
    assert treated(make())


class Asks(SetsUp):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self._count(self.body)


class AsksByName(SetsUp):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * getattr(self, "_cou" + "nt"[: len(x)])(self.body)


class AsksByAnyName(SetsUp):
    how = "_count"

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * getattr(self, self.how)(self.body)


def count(net: SetsUp) -> int:
    return net._count(net.body)


class AsksByHelper(SetsUp):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * count(self)


class AsksByProperty(SetsUp):
    @property
    def strides(self) -> list[Any]:
        return [getattr(module, "stride", 1) for module in self.body]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * len(self.strides)


@pytest.mark.parametrize("make", [Asks, AsksByName, AsksByAnyName, AsksByHelper, AsksByProperty])
def test_code_that_forward_reaches_counts(make: Callable[[], nn.Module]) -> None:
    assert not treated(make())


def test_a_network_of_transformers_is_treated() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])
    net, x = transformers.ResNetModel(config).eval(), torch.rand(1, 3, 64, 67)
    assert len(az.plan(net).treated) == 7
    torch.testing.assert_close(az.antialias(net, 1)(x).last_hidden_state, net(x).last_hidden_state)


class Abbreviates(SetsUp):
    def forward(s, x: Tensor) -> Tensor:  # noqa: N805
        return super().forward(x) * s._count(s.body)


def test_the_name_of_self_does_not_matter() -> None:
    assert not treated(Abbreviates())
