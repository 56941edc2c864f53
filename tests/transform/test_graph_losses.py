"""What a graph does not record is named in a warning; hooks of the model itself move along."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import antialiased_zoo as az


class Net(nn.Module):
    """A backbone that runs in a way of its own, and a head."""

    def __init__(self, run: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.head, self.run = nn.Conv2d(8, 2, 1), run

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.max_pool2d(self.run(self.body, x), 2))


def frozen(body: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return body(x)


def in_bfloat16(body: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return body(x)


def inference(body: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return body(x)


def recomputed(body: nn.Module, x: Tensor) -> Tensor:
    return checkpoint(body, x, use_reentrant=False)


IMAGES = torch.rand(1, 3, 32, 32)


@pytest.mark.parametrize(
    ("run", "lost"),
    [
        (frozen, r"torch.no_grad\(\)"),
        (in_bfloat16, r"torch.autocast\(\)"),
        (inference, r"torch.inference_mode\(\)"),
        (recomputed, r"checkpoint\(\)"),
    ],
)
def test_what_surrounds_ops_is_named(run: Callable[[nn.Module, Tensor], Tensor], lost: str) -> None:
    with pytest.warns(UserWarning, match=rf"runs without .*{lost}.* \(body.0, body.1, body.2 and 1 more\)"):
        az.antialias(Net(run), graph=True)


def test_what_surrounds_the_call_is_not_named() -> None:
    with warnings.catch_warnings(), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        warnings.simplefilter("error")
        az.antialias(Net(nn.Module.__call__), graph=True)


@pytest.mark.filterwarnings("ignore:For backward hooks to be called")  # torch's, while it is traced
def test_hooks_inside_are_named_and_the_models_own_and_those_of_layers_move_along() -> None:
    net, seen = Net(nn.Module.__call__), list[str]()
    net.register_forward_hook(lambda module, *_: seen.append("model"))
    net.head.register_forward_hook(lambda *_: seen.append("head"))
    net.body.register_full_backward_hook(lambda *_: seen.append("body"))
    with pytest.warns(UserWarning, match=r"the hooks of modules that become several ops \(body\)"):
        made = az.antialias(net, graph=True)
    made(IMAGES).sum().backward()
    assert seen == ["head", "model"]
