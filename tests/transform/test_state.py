"""What reading and antialiasing leave as it was: labels, modes, hooks, random numbers, other threads."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from transforming import Calls

import antialiased_zoo as az


def test_labels_go_through_a_max_pool_as_they_did() -> None:
    labels = torch.randint(0, 5, (1, 1, 9, 8))
    pool = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
    assert torch.equal(az.antialias(nn.Sequential(pool))(labels), pool(labels))


def test_lazy_modules_are_refused_before_anything_changes() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.LazyConv2d(8, 1, 2))
    before = repr(net)
    with pytest.raises(ValueError, match="3 is a LazyConv2d whose parameters are not initialised"):
        az.antialias_(net)
    assert repr(net) == before


def test_a_graph_that_fixes_a_mode_says_so() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Calls(lambda x: F.max_pool2d(x, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        az.antialias(net, graph=True)

    class Drops(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(F.max_pool2d(x, 2), 0.5, training=self.training)

    with pytest.warns(UserWarning, match="always does what it does in training"):
        az.antialias(nn.Sequential(nn.Conv2d(3, 4, 3), Drops()), graph=True)


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


def test_trying_out_draws_no_numbers_of_the_process_and_runs_on_the_meta_device() -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Conv2d(4, 4, 3, 2), Calls(lambda x: F.dropout(F.relu(x), 0.5)), nn.Conv2d(4, 3, 1))

    with torch.device("meta"):
        assert str(az.plan(net(), stem_stride=1).sites[0].placement) == "after 1"
    on_cpu, state = net(), torch.get_rng_state()
    assert str(az.plan(on_cpu, stem_stride=1).sites[0].placement) == "after 1"
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("graph", [False, True])
def test_a_graph_draws_numbers_when_it_runs_and_not_when_it_is_traced(graph: bool) -> None:
    noisy = Calls(lambda x: F.relu(x) * torch.rand(1, 4, 1, 1) + torch.zeros(1, 4, 1, 1).normal_())
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), noisy).eval(), torch.randn(1, 3, 24, 24)
    state = torch.get_rng_state()
    mine = az.antialias(net, 1, graph=graph)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(mine(x), mine(x))
    outputs = []
    for model in (net, mine):
        torch.manual_seed(0)
        outputs.append(model(x))
    torch.testing.assert_close(*outputs)


class Same(nn.Conv2d):
    """A convolution that pads as TensorFlow does, and draws numbers."""

    def forward(self, x: Tensor) -> Tensor:
        step = self.stride[0]
        rows, columns = (max((-(-n // step) - 1) * step + 3 - n, 0) for n in x.shape[2:])
        padding = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        noise = torch.zeros(1).bernoulli_(0.5)
        return F.conv2d(F.pad(x, padding), self.weight, self.bias, self.stride) + 0 * noise


def drops(x: Tensor) -> Tensor:
    return F.dropout(F.rrelu(x, training=True), 0.5) * 0 + x.clamp(min=0)


def test_planning_leaves_other_threads_alone() -> None:
    net = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in range(4)), nn.MaxPool2d(2)).eval()
    # What has a forward of its own is tried out, and so is an activation.
    drawing = nn.Sequential(nn.Conv2d(4, 4, 1), Calls(drops), Same(4, 4, 3, 2), Calls(drops), nn.Conv2d(4, 4, 1))
    x = torch.randn(1, 4, 8, 8)
    expected, wrong, stop = net(x), list[str](), threading.Event()
    numbers: list[float] = []

    def run() -> None:
        while not stop.is_set():
            try:
                if not torch.equal(net(x), expected):
                    wrong.append("another result")
            except Exception as error:
                wrong.append(repr(error))

    def draw() -> None:
        while not stop.is_set():
            numbers.append(float(torch.rand(())))

    torch.manual_seed(0)
    threads = [threading.Thread(target=target) for target in (run, run, draw)]
    call = nn.Module.__call__
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert len(az.plan(net).treated) == len(az.plan(drawing).treated) == 1
            assert nn.Module.__call__ is call
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    torch.manual_seed(0)
    assert numbers == [float(torch.rand(())) for _ in numbers], "planning has drawn numbers, or given some back"


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_model_that_cannot_be_copied_is_treated_in_place() -> None:
    net = nn.Sequential(nn.Conv1d(1, 4, 3), nn.utils.weight_norm(nn.Conv1d(4, 4, 5, 2)), nn.LeakyReLU())
    x = torch.randn(1, 1, 40)
    expected = net(x)
    with pytest.raises(ValueError, match=r"Sequential cannot be copied: use antialias_\(\)"):
        az.antialias(net)
    torch.testing.assert_close(az.antialias_(net, 1)(x), expected)
