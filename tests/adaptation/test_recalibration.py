"""Batch-norm statistics measured anew, against float64 arithmetic on all values at once."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import antialiased_zoo as az

torch.manual_seed(0)
IMAGES = torch.randn(23, 3, 9, 9) * torch.tensor([1.0, 0.1, 30.0])[:, None, None] + 5


def batches(size: int = 8) -> DataLoader[tuple[Tensor, ...]]:
    """23 images: the last batch is smaller."""
    return DataLoader(TensorDataset(IMAGES, torch.arange(23)), batch_size=size)


def close(layer: nn.Module, values: Tensor) -> None:
    """A layer's statistics are those of all values, ``(N, C, ...)``, at once."""
    flat = values.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(layer.running_mean.double(), flat.mean(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.running_var.double(), flat.var(1), rtol=1e-5, atol=1e-6)


def test_one_layer_measures_everything_at_once() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3, momentum=0.3))
    assert az.recalibrate(net, batches()) is net
    close(net[0], IMAGES)
    assert net[0].num_batches_tracked == 3
    assert net[0].momentum == 0.3
    assert net.training


def test_an_empty_batch_changes_nothing() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3))
    az.recalibrate(net, [IMAGES[:0], *batches(), IMAGES[:0]])
    close(net[0], IMAGES)
    assert net[0].num_batches_tracked == 3


def test_a_loader_is_read_once() -> None:
    begun = []

    class Loader:
        def __iter__(self) -> Iterator[Tensor]:
            begun.append(self)
            return iter(IMAGES.split(8))

    close(az.recalibrate(nn.Sequential(nn.BatchNorm2d(3)), Loader())[0], IMAGES)
    assert len(begun) == 1


@pytest.mark.parametrize("size", [2, 23])
def test_the_size_of_batches_does_not_matter_to_the_first_layer(size: int) -> None:
    net = nn.Sequential(nn.SyncBatchNorm(3))
    close(az.recalibrate(net, batches(size) if size == 23 else [IMAGES[i : i + 2] for i in range(0, 23, 2)])[0], IMAGES)


def test_later_layers_see_what_batch_statistics_make() -> None:
    """The second layer's input, in float64: convolution, norm by the batch, ReLU; whatever was running before."""
    net = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9)).double()
    net[0].running_mean.fill_(1e6)
    az.recalibrate(net, [IMAGES[:16].double(), IMAGES[16:].double()])
    parts = []
    for part in (IMAGES[:16].double(), IMAGES[16:].double()):
        mean = part.mean((0, 2, 3), keepdim=True)
        variance = ((part - mean) ** 2).mean((0, 2, 3), keepdim=True)
        parts.append(net[2](((part - mean) / (variance + 1e-5).sqrt()).relu()).detach())
    close(net[0], IMAGES)
    close(net[3], torch.cat(parts))


def test_only_statistics_change() -> None:
    net = az.antialias(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU(), nn.MaxPool2d(2)))
    net[1].eval()
    calls: list[bool] = []
    net[2].register_forward_hook(lambda module, args, output: calls.append(module.training))
    flags, parameters = [m.training for m in net.modules()], {n: p.clone() for n, p in net.named_parameters()}
    hooks = {name: len(m._forward_pre_hooks) for name, m in net.named_modules()}
    az.recalibrate(net, batches(), progress=False)
    assert calls == [False] * 3
    assert [m.training for m in net.modules()] == flags
    assert hooks == {name: len(m._forward_pre_hooks) for name, m in net.named_modules()}
    assert all(torch.equal(p, parameters[name]) and p.grad is None for name, p in net.named_parameters())
    assert net[1].track_running_stats
    close(net[1], net[0](IMAGES).detach())


def test_layers_out_of_reach_or_without_statistics_are_left_alone() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            self.none = nn.BatchNorm2d(3, track_running_stats=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.none(self.unused(x) if self.training else self.used(input=x))

    net = Branches()
    az.recalibrate(net, batches())
    close(net.used, IMAGES)
    assert net.unused.running_mean.eq(0).all()
    assert net.none.running_mean is None
    assert not net.none.track_running_stats


def test_a_shared_layer_measures_all_that_it_reads() -> None:
    norm = nn.BatchNorm2d(3, affine=False)
    net = nn.Sequential(norm, norm)
    az.recalibrate(net, [IMAGES])
    mean, variance = IMAGES.double().mean((0, 2, 3), keepdim=True), IMAGES.double().var((0, 2, 3), False, keepdim=True)
    close(norm, torch.cat([IMAGES.double(), (IMAGES.double() - mean) / (variance + 1e-5).sqrt()]))
    assert norm.num_batches_tracked == 2


def test_one_and_three_dimensions_and_half_precision() -> None:
    close(az.recalibrate(nn.Sequential(nn.BatchNorm1d(3)), [IMAGES.mean((2, 3))])[0], IMAGES.mean((2, 3)))
    close(az.recalibrate(nn.Sequential(nn.BatchNorm3d(3)), [IMAGES[..., None]])[0], IMAGES)
    net = az.recalibrate(nn.Sequential(nn.BatchNorm2d(3)).bfloat16(), [IMAGES.bfloat16()])
    torch.testing.assert_close(net[0].running_mean, IMAGES.mean((0, 2, 3)).bfloat16(), rtol=0.02, atol=0.02)


def test_a_compiled_model() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
    compiled = torch.compile(net, backend="eager")
    compiled(IMAGES)
    az.recalibrate(compiled, batches())
    close(net[0], IMAGES)


def broken() -> Iterator[Tensor]:
    yield IMAGES
    raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("loader", "error", "message"),
    [
        ([], ValueError, "no batch"),
        ([IMAGES[:0]], ValueError, "no batch"),
        (broken(), OSError, "the disk is gone"),
        (IMAGES, TypeError, r"got one tensor .*: put it into a list"),
        ([IMAGES, IMAGES * torch.inf], ValueError, "batch norm '1' read infinities or NaNs"),
        ([IMAGES, {"pixel_values": IMAGES}], TypeError, r"got dict; .*pixel_values"),
    ],
)
def test_after_an_error_the_model_is_as_it_was(loader: object, error: type[Exception], message: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    net(IMAGES)
    net[1].eval()
    before, flags = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    with pytest.raises(error, match=message):
        az.recalibrate(net, loader)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert [m.training for m in net.modules()] == flags
    assert net[1].track_running_stats
    assert not net[1]._forward_pre_hooks


def test_a_model_without_batch_norm_is_said_to_be_one() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
    with pytest.warns(UserWarning, match="Sequential has no batch norm"):
        assert az.recalibrate(net, batches()) is net


def test_it_brings_a_blurred_network_nearer_to_its_own_scale() -> None:
    """A trained norm is off after surgery: its output has not the mean and variance that it was trained to give."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(8))
    az.recalibrate(net, batches())
    blurred = az.antialias(net).eval()

    def error() -> float:
        out = blurred(IMAGES).detach()
        return float((out.var((0, 2, 3)) - 1).abs().mean() + out.mean((0, 2, 3)).abs().mean())

    before = error()
    az.recalibrate(blurred, batches())
    assert error() < 0.01 < before
