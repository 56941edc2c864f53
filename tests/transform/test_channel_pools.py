"""Pools that stride along channels are left; the same pools along an image axis or tokens are treated."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antialiased_zoo as az


class Pooled(nn.Module):
    def __init__(self, first: nn.Module, pool: nn.Module, before: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.act, self.pool, self.before = first, nn.ReLU(), pool, before

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.before(self.act(self.first(x))))


CONV = nn.Conv2d(3, 8, 3, padding=1)


@pytest.mark.filterwarnings("ignore:nothing in")
@pytest.mark.parametrize(
    ("pool", "before"),
    [
        (nn.MaxPool3d((2, 1, 1)), lambda x: x.unsqueeze(1)),
        (nn.MaxPool1d(2), lambda x: x.flatten(2).transpose(1, 2)),
        (nn.MaxPool2d((1, 2)), lambda x: x.permute(0, 2, 3, 1)),
        (nn.AvgPool1d(2), lambda x: x.mean((2, 3)).unsqueeze(1)),
        (nn.MaxPool1d(2), lambda x: x.view(x.size(0), x.size(1), -1).permute(0, 2, 1)),
        (nn.MaxPool1d(2), lambda x: x.reshape((x.shape[0], x.shape[1], -1)).transpose(1, 2)),
        (nn.MaxPool1d(2), lambda x: x.mean(2, keepdim=True).squeeze(2).permute(0, 2, 1)),
        (nn.MaxPool1d(2), lambda x: x.select(2, 0).permute(0, 2, 1)),
        (nn.MaxPool1d(2), lambda x: x[:, :, 0].permute(0, 2, 1)),
        (nn.MaxPool3d((2, 1, 1)), lambda x: x[:, None]),
        (nn.MaxPool2d((2, 1)), lambda x: x[:, None, :, 1]),
        (nn.MaxPool1d(2), lambda x: x[..., 0].permute(0, 2, 1)),
        (nn.MaxPool1d(2), lambda x: x.mean(-1, keepdim=True).squeeze(-1).transpose(1, 2)),
        (nn.MaxPool1d(2), lambda x: x.transpose(-1, -2).flatten(2).transpose(1, 2)),
        (nn.MaxPool1d(2), lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1])),
        (nn.MaxPool2d((1, 2)), lambda x: x.movedim(1, -1)),
        (nn.MaxPool2d((1, 2)), lambda x: x.movedim(-1, 1).movedim(2, -1)),
        (nn.MaxPool1d(2), lambda x: x.view(2, 4, -1).permute(0, 2, 1)),  # an axis of half the channels
        (nn.MaxPool1d(2), lambda x: F.dropout(x.flatten(2), 0.0, False).transpose(1, 2)),
        (nn.MaxPool1d(2), lambda x: (x.flatten(2) * 2 + 1).transpose(1, 2)),
        (nn.MaxPool1d(2), lambda x: (x + x.roll(1, 1)).flatten(2).transpose(1, 2)),
        (nn.MaxPool1d(2), lambda x: nn.Flatten(2)(x).transpose(1, 2)),
        (nn.MaxPool1d(2), lambda x: x.view(-1, 8, x.shape[2] * x.shape[3]).transpose(1, 2)),
        (nn.MaxPool1d(2), lambda x: torch.cat([x, x], 1).flatten(2).transpose(1, 2)),
        (nn.MaxPool2d((2, 1)), lambda x: x.squeeze(2).transpose(1, 2)[:, 0]),  # its axis is longer than 1: it stays
        (nn.MaxPool1d(2), lambda x: x[:, 4:].flatten(2).transpose(1, 2)),
    ],
)
def test_a_pool_over_channels_is_left(pool: nn.Module, before: Callable[[Tensor], Tensor]) -> None:
    net, x = Pooled(CONV, pool, before), torch.randn(2, 3, 8, 8)
    (site,) = az.plan(net).sites
    assert site.reason == "pools over channels, not along an image axis"
    number = before(
        torch.arange(8.0).view(1, 8, 1, 1).expand(2, 8, 8, 8).contiguous()
    )  # each value is its channel's number
    strides = pool.stride
    strides = strides if isinstance(strides, tuple) else (strides,)
    assert any(stride > 1 and number.diff(dim=axis - len(strides)).any() for axis, stride in enumerate(strides))
    assert torch.equal(az.antialias(net)(x), net(x))


@pytest.mark.parametrize(
    ("first", "pool", "before"),
    [
        (CONV, nn.MaxPool3d((1, 2, 2)), lambda x: x.unsqueeze(1)),
        (CONV, nn.MaxPool1d(2), lambda x: x.flatten(2)),
        (CONV, nn.MaxPool1d(2), lambda x: x.view(x.size(0), x.size(1), -1)),
        (CONV, nn.MaxPool1d(2), lambda x: x[:, :, 0]),
        (CONV, nn.MaxPool2d((1, 2)), lambda x: x[:, None, :, 1]),
        (CONV, nn.MaxPool2d(2), lambda x: x[:, :4]),
        (CONV, nn.MaxPool1d(2), lambda x: x.select(2, 0)),
        (CONV, nn.MaxPool2d(2), lambda x: x.transpose(2, 3)),
        (CONV, nn.MaxPool2d(2), lambda x: torch.cat([x, x * x.mean((2, 3), keepdim=True)], 1)),
        (CONV, nn.MaxPool2d(2), lambda x: x.squeeze(2)),
        (CONV, nn.MaxPool1d(2), lambda x: x.transpose(-1, -2).mean(3)),
        (CONV, nn.MaxPool1d(2), lambda x: x.reshape(x.shape[0], -1, x.shape[1])),  # no permutation: mixed axes
        (CONV, nn.MaxPool1d(2), lambda x: x.permute(0, 1, 3, 2).reshape(x.size(0), -1, x.size(2))),
        (CONV, nn.MaxPool2d(2), lambda x: x.movedim(2, 3)),
        (CONV, nn.MaxPool2d(2), lambda x: x[..., 1:, :]),
        (CONV, nn.MaxPool1d(2), lambda x: F.pad(x, (1, 1))[:, :, 0]),
        (CONV, nn.MaxPool2d(2), lambda x: x.flatten(0, 1)[:, :, :, None]),
        (CONV, nn.MaxPool1d(2), lambda x: F.pad(x, (1, 1)).view(x.size(0), x.size(1), -1)),
        (nn.Conv1d(3, 8, 1), nn.MaxPool2d(2), lambda x: x[:, :, :, :]),
        (nn.Linear(8, 8), nn.MaxPool1d(2), lambda x: x.transpose(1, 2)),  # tokens
        (nn.Identity(), nn.MaxPool2d(2), lambda x: x.unsqueeze(1)),  # a spectrogram
        (CONV, nn.MaxPool2d(2), lambda x: torch.cat([F.pad(x[:, :4, 1:], (0, 0, 0, 1)), x[:, 4:]], 1)),  # moved by one
    ],
)
def test_a_pool_over_positions_is_treated(
    first: nn.Module, pool: nn.Module, before: Callable[[Tensor], Tensor]
) -> None:
    assert len(az.plan(Pooled(first, pool, before)).treated) == 1


def test_a_size_may_be_an_argument() -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = CONV, nn.MaxPool1d(2)

        def forward(self, x: Tensor, size: int) -> Tensor:
            return self.pool(self.conv(x).view(x.size(dim=0), size, -1))

    assert len(az.plan(Views()).treated) == 1


def test_the_axes_are_found_while_a_model_is_built_without_data() -> None:
    with torch.device("meta"):
        net = Pooled(nn.Conv2d(3, 8, 3), nn.MaxPool1d(2), lambda x: x.flatten(2).transpose(1, 2))
        assert not az.plan(net).treated
