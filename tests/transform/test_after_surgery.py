"""What still works on a model that was planned for or antialiased: running, training, storing, exporting."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from forked import run_two
from torch import Tensor, fx, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.parallel import DistributedDataParallel
from torchvision.models.feature_extraction import create_feature_extractor

import antialiased_zoo as az

IMAGES = torch.randn(6, 3, 21, 24, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(6) % 5


class Small(nn.Module):
    """A strided convolution, a shortcut, a shared ReLU, three pools; one is a function, for the graph form."""

    def __init__(self, functional: bool) -> None:
        super().__init__()
        self.functional = functional
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.shortcut = nn.Conv2d(8, 16, 1, stride=2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.avg = nn.AvgPool2d(2)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.conv(self.relu(self.norm(self.down(x))))
        x = self.relu(y + self.shortcut(x))
        x = F.max_pool2d(x, 3, 2, 1) if self.functional else self.pool(x)
        return self.head(self.avg(x).mean((2, 3)))


def plain(functional: bool) -> Small:
    torch.manual_seed(0)
    return Small(functional)


def treated(form: str) -> nn.Module:
    net = az.antialias(plain(form == "graph"), graph=form == "graph")
    assert isinstance(net, fx.GraphModule) == (form == "graph")
    assert sum("Blur" in type(m).__name__ or isinstance(m, az.Downsample) for m in net.modules()) == 4
    return net


@pytest.fixture(params=["module", "graph"])
def net(request: pytest.FixtureRequest) -> nn.Module:
    return treated(request.param)


def loss(net: Callable[[Tensor], Tensor], rows: slice = slice(None)) -> Tensor:
    return F.cross_entropy(net(IMAGES[rows]), TARGETS[rows])


def gradients(net: nn.Module) -> dict[str, Tensor]:
    net.zero_grad()
    loss(net).backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-5)


# Names, parameters, optimizers


def test_names_and_keys_stay_and_checkpoints_load(net: nn.Module) -> None:
    old = plain(False)
    assert dict(net.named_parameters()).keys() == dict(old.named_parameters()).keys()
    assert net.state_dict().keys() == old.state_dict().keys()
    stored = io.BytesIO()
    torch.save(net.state_dict(), stored)
    stored.seek(0)
    state = torch.load(stored, weights_only=True)
    assert all(torch.equal(tensor, old.state_dict()[name]) for name, tensor in state.items())
    old.load_state_dict(state)
    net.load_state_dict(old.state_dict())


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
    ],
    ids=["sgd", "adamw"],
)
def test_an_optimizer_made_before_goes_on(make: Callable[..., torch.optim.Optimizer]) -> None:
    """As one made after, which takes over its state: momenta and averages stay with their parameters."""
    net = plain(False)
    optimizer = make(net.parameters())
    loss(net).backward()
    optimizer.step()
    parameters = list(net.parameters())
    twin = az.antialias(net)
    other = make(twin.parameters())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    az.antialias_(net)
    assert all(one is same for one, same in zip(net.parameters(), parameters, strict=True))
    before = copy.deepcopy(dict(net.named_parameters()))
    for model, steps in ((net, optimizer), (twin, other)):
        gradients(model)
        steps.step()
    assert all(not torch.equal(p, before[name]) for name, p in net.named_parameters())
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), twin.parameters(), strict=True))


def test_given_optimizers_are_checked_to_be_the_models() -> None:
    net, stranger = plain(False), plain(False)
    mine = torch.optim.SGD([*net.head.parameters(), nn.Parameter(torch.ones(1))], lr=0.1)
    shown = repr(net)
    with pytest.raises(ValueError, match="Adam holds no parameter of this Small"):
        az.antialias_(net, optimizers=[mine, torch.optim.Adam(stranger.parameters())])
    with pytest.raises(TypeError, match="got StepLR"):
        az.antialias_(net, optimizers=[torch.optim.lr_scheduler.StepLR(mine, 1)])
    with pytest.raises(TypeError, match="returns a copy, whose parameters are in no optimizer"):
        az.antialias(net, optimizers=mine)
    assert repr(net) == shown
    groups = copy.copy(mine.param_groups[0]["params"])
    az.antialias_(net, optimizers=mine)
    assert all(one is same for one, same in zip(mine.param_groups[0]["params"], groups, strict=True))


# Copies


def by_pickle(net: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(net))


def by_torch_save(net: nn.Module) -> nn.Module:
    stored = io.BytesIO()
    torch.save(net, stored)
    stored.seek(0)
    return torch.load(stored, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, by_pickle, by_torch_save])
def test_copies_compute_the_same_by_themselves(net: nn.Module, copied: Callable[[nn.Module], nn.Module]) -> None:
    net.eval()
    twin = copied(net)
    assert torch.equal(twin(IMAGES), net(IMAGES))
    close(gradients(twin), gradients(net))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert twin(IMAGES).abs().sum() > 0
    twin.double()(IMAGES.double())  # its hooks call its own blurs
    net(IMAGES)


# Compilers and tracers


def test_compiles_whole(net: nn.Module) -> None:
    net.eval()
    compiled = torch.compile(copy.deepcopy(net), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(IMAGES), net(IMAGES), rtol=1e-4, atol=1e-5)
    close({name.removeprefix("_orig_mod."): g for name, g in gradients(compiled).items()}, gradients(net))


def test_exports_with_a_dynamic_batch(net: nn.Module) -> None:
    net.eval()
    shapes = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}
    exported = torch.export.export(net, (IMAGES,), dynamic_shapes=shapes).module()
    for batch in (1, 4):
        torch.testing.assert_close(exported(IMAGES[:batch]), net(IMAGES[:batch]), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("trace", [fx.symbolic_trace, lambda net: torch.jit.trace(net, IMAGES)], ids=["fx", "jit"])
def test_can_be_traced(net: nn.Module, trace: Callable[[nn.Module], nn.Module]) -> None:
    net.eval()
    traced = trace(net)
    torch.testing.assert_close(traced(2 * IMAGES), net(2 * IMAGES), rtol=1e-4, atol=1e-5)


def test_torchvision_takes_features_out() -> None:
    net = az.resnet18(num_classes=5).eval()
    maps = create_feature_extractor(net, ["maxpool", "layer2"])(IMAGES)
    assert {name: tuple(m.shape) for name, m in maps.items()} == {"maxpool": (6, 64, 5, 6), "layer2": (6, 128, 3, 3)}


def test_parameters_can_be_given_from_outside(net: nn.Module) -> None:
    net.eval()
    doubled = {name: 2 * p for name, p in net.named_parameters()}
    expected = functional_call(net, doubled, (IMAGES,))
    net.load_state_dict(doubled, strict=False)
    torch.testing.assert_close(expected, net(IMAGES))


def test_an_ensemble_runs_as_one() -> None:
    nets = [treated("module").eval() for _ in range(2)]
    with torch.no_grad():
        for parameter in nets[1].parameters():
            parameter.mul_(1.1)
    parameters, buffers = stack_module_state(nets)
    outputs = vmap(lambda p, b, x: functional_call(nets[0], (p, b), (x,)), (0, 0, None))(parameters, buffers, IMAGES)
    torch.testing.assert_close(outputs, torch.stack([n(IMAGES) for n in nets]), rtol=1e-4, atol=1e-5)


# Several processes


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    for form in ("module", "graph"):
        net = torch.load(f"{folder}/{form}.pt", weights_only=False)
        wrapped = DistributedDataParallel(net)
        loss(wrapped, slice(3 * rank, 3 * rank + 3)).backward()
        if rank == 0:
            torch.save({name: p.grad for name, p in net.named_parameters()}, f"{folder}/{form}_gradients.pt")
    dist.destroy_process_group()


def test_two_processes_find_the_gradients_of_one(tmp_path: Path) -> None:
    nets = {form: treated(form).eval() for form in ("module", "graph")}  # batch norm in training sees its process alone
    for form, net in nets.items():
        torch.save(net, tmp_path / f"{form}.pt")
    run_two(_rank, str(tmp_path))
    for form, net in nets.items():
        close(torch.load(tmp_path / f"{form}_gradients.pt"), gradients(net))


# Planning


class KeepsWhatItSaw(nn.Module):
    """Notes facts of its first input, as torchvision's RoI pooling does, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.relu = nn.ReLU()
        self.rows: object = None
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.rows is None:
            self.rows = x.shape[2]
        return self.relu(self.conv(x)) / self.rows


def test_reading_a_model_leaves_nothing_in_it() -> None:
    net = KeepsWhatItSaw()
    az.antialias_(net, stem_stride=1)
    assert (net.rows, net.calls) == (None, 0)
    net(torch.randn(1, 8, 6, 6))
    assert (net.rows, net.calls) == (6, 1)


def test_a_blur_before_a_pool_that_is_replaced_moves_with_it() -> None:
    """A strided convolution whose shared ReLU is read by a max pool alone: one module takes both blurs."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1)
            self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.relu(self.down(self.relu(self.stem(x)))))

    net = Shared()
    blurred = az.antialias(net)
    assert len(az.plan(net).treated) == 2
    assert blurred(IMAGES).shape == net(IMAGES).shape
    torch.testing.assert_close(az.antialias(net, 1)(IMAGES), net(IMAGES), rtol=1e-5, atol=1e-5)
    expected = az.Downsample(8)(net.relu(F.conv2d(net.relu(net.stem(IMAGES)), net.down.weight, net.down.bias, 1, 1)))
    torch.testing.assert_close(blurred(IMAGES), az.MaxBlurPool2d(2)(expected), rtol=1e-5, atol=1e-5)


def test_hooks_of_a_replaced_pool_go_on_and_can_be_removed() -> None:
    net = plain(False)
    calls: list[dict[str, object]] = []
    handle = net.pool.register_forward_hook(lambda *args: calls.append(args[2]), with_kwargs=True)
    az.antialias_(net)
    net(IMAGES)
    handle.remove()
    net(IMAGES)
    assert calls == [{}]


def test_a_graph_can_be_treated_again() -> None:
    net = plain(True).eval()
    twice = az.antialias(az.antialias(net, graph=True, kinds=("maxpool", "avgpool")), graph=True)
    torch.testing.assert_close(twice(IMAGES), az.antialias(net, graph=True)(IMAGES))
