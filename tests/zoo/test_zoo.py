"""All 23 networks against antialiased-cnns and timm holding the same tensors; names and weights against torchvision."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from unittest import mock

import antialiased_cnns
import pytest
import timm
import torch
import torchvision
from process_state import changed, process
from torch import nn

import antialiased_zoo as az
from antialiased_zoo.zoo import ARCHITECTURES

# What is the same code for a whole family is tested on one network of each; the others are slow tests.
TORCHVISIONS = [name for name, architecture in ARCHITECTURES.items() if architecture.builder is None]
FAMILIES = {"alexnet", "vgg11", "resnet18", "densenet121", "mobilenet_v2"}
COMPILED = {"alexnet", "resnet18"}


FILTERS = {"resnet18": (1, 2, 3, 4, 5, 6, 7)}
SIZES = {"alexnet": ((128, 128), (129, 140)), "vgg11": ((96, 96), (97, 130))}


@contextlib.contextmanager
def initialised(weights: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Initialise with these weights: a hundred million random numbers are most of the time here."""
    with contextlib.ExitStack() as stack:
        for name in ("kaiming_uniform_", "kaiming_normal_", "uniform_", "normal_"):
            stack.enter_context(mock.patch.object(nn.init, name, lambda tensor, *_, **__: weights(tensor)))
        yield


NOISE = torch.randn(1_000_003)  # a prime number, so that rows differ


@torch.no_grad()
def repeated_noise(tensor: torch.Tensor) -> torch.Tensor:
    """Fill with the same random numbers over and over, of a size that keeps the maps' variance."""
    scale = (2 / max(tensor[0].numel(), 8)) ** 0.5
    for part in tensor.view(-1).split(len(NOISE)):
        torch.mul(NOISE[: len(part)], scale, out=part)
    return tensor


def peer_of(name: str, filter_size: int, weights: Callable[[torch.Tensor], torch.Tensor] = repeated_noise) -> nn.Module:
    with contextlib.redirect_stdout(io.StringIO()), initialised(weights):  # it prints while it builds
        return getattr(antialiased_cnns, name)(pretrained=False, filter_size=filter_size).eval()


def without_filters(peer: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in peer.state_dict().items() if not name.endswith("filt")}


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@torch.inference_mode()
@pytest.mark.parametrize("name", TORCHVISIONS)
def test_outputs_equal_the_published_code(name: str) -> None:
    torch.manual_seed(0)
    # The longest filter reflects three pixels into the last map: small images, and larger ones where pools lose pixels.
    sizes = SIZES.get(name, ((64, 64), (65, 98)) if name in FAMILIES else ((65, 98),))
    images = [torch.randn(1, 3, *size) for size in sizes]
    tensors = without_filters(peer_of(name, 4))
    for filter_size in FILTERS.get(name, (2, 3, 4, 5) if name in FAMILIES else (4,)):
        peer = peer_of(name, filter_size, lambda tensor: tensor)
        peer.load_state_dict(tensors, strict=False, assign=True)
        with torch.device("meta"):
            ours = az.create_model(name, filter_size).eval()
        # The published names differ in places; their order, once the filters are dropped, is torchvision's.
        ours.load_state_dict(dict(zip(ours.state_dict(), tensors.values(), strict=True)), assign=True)
        for image in images:
            expected = peer(image)
            assert_close(ours(image), expected)
        # The last, an odd rectangle, in channels-last too, where the peer crashes.
        ours = ours.to(memory_format=torch.channels_last)
        assert_close(ours(image.contiguous(memory_format=torch.channels_last)), expected)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("recipe", "filter_size", "peer", "sizes"),
    [("timm_bt", 3, "resnetblur50", (64, 97)), ("timm_a1h", 2, "resnetaa50", (64, 96))],  # timm's fails at odd sizes
)
def test_the_hub_checkpoints_structures_equal_timm(
    recipe: str, filter_size: int, peer: str, sizes: tuple[int, ...]
) -> None:
    entry = az.get_entry("resnet50", filter_size, recipe)
    theirs = timm.create_model(peer).eval()
    ours = az.resnet50(filter_size, **entry.structure).eval()
    ours.load_state_dict(theirs.state_dict())
    for size in sizes:
        image = torch.randn(1, 3, size, size)
        assert_close(ours(image), theirs(image))


@pytest.mark.parametrize("name", TORCHVISIONS)
def test_names_and_shapes_are_torchvisions_and_the_process_is_left_alone(name: str) -> None:
    before = process()
    with torch.device("meta"):
        ours, theirs = az.create_model(name), torchvision.models.get_model(name)
    assert not changed(before)
    homes = {type(module).__module__ for module in ours.modules() if module is not ours}
    assert all(home.startswith(("torch.", "torchvision.", "antialiased_zoo.layers.")) for home in homes), homes
    assert type(ours).__module__.startswith("antialiased_zoo.zoo.")  # with the backbone's methods
    assert isinstance(ours, type(theirs))
    described = [{key: tensor.shape for key, tensor in net.state_dict().items()} for net in (ours, theirs)]
    assert described[0] == described[1]
    assert list(described[0]) == list(described[1])
    assert ours.load_state_dict(theirs.state_dict(), strict=True, assign=True).missing_keys == []


def test_without_a_filter_size_it_is_torchvisions_network() -> None:
    assert repr(az.resnet18(filter_size=None)) == repr(torchvision.models.resnet18())


def test_every_network_has_a_factory_of_its_name() -> None:
    for name in az.list_models():
        assert getattr(az, name).__name__ == name
        assert name in getattr(az, name).__doc__
    assert (len(TORCHVISIONS), len(az.list_models())) == (23, 26)


def test_torchvisions_keywords_are_passed_on() -> None:
    net = az.resnet50(replace_stride_with_dilation=(False, True, True), norm_layer=partial(nn.GroupNorm, 32))
    assert isinstance(net.bn1, nn.GroupNorm)
    assert net.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 1000)
    assert len(az.plan(torchvision.models.resnet50(replace_stride_with_dilation=(False, True, True))).treated) == 3
    assert az.mobilenet_v2(dropout=0.7).classifier[0].p == 0.7


def test_stem_options() -> None:
    assert az.alexnet().features[0].stride == (2, 2)
    assert az.alexnet(stem_stride=4).features[0].stride == (4, 4)
    for options in ({"stem_stride": 1}, {"pool_only": False}):
        assert az.resnet18(**options).conv1.stride == (1, 1)
    assert repr(az.resnet18(pool_only=True)) == repr(az.resnet18())
    with pytest.raises(ValueError, match="give only one of them"):
        az.resnet18(pool_only=True, stem_stride=2)


@torch.inference_mode()
def test_an_antialiased_stem_equals_the_published_pool_only_false() -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        peer = antialiased_cnns.resnet18(pretrained=False, filter_size=4, pool_only=False).eval()
    ours = az.resnet18(pool_only=False).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), without_filters(peer).values(), strict=True)))
    image = torch.randn(1, 3, 97, 64)
    assert_close(ours(image), peer(image))


def test_channels_and_classes() -> None:
    net = az.resnet18(in_chans=5, num_classes=7).eval()
    assert net(torch.randn(2, 5, 64, 64)).shape == (2, 7)
    assert (
        az.mobilenet_v2(memory_format=torch.channels_last)
        .features[0][0]
        .weight.is_contiguous(memory_format=torch.channels_last)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet51"}, "did you mean resnet50"),
        ({"name": "ResNet-50"}, "did you mean resnet50"),
        ({"name": "vit"}, "there is no network 'vit'"),
        ({"name": "resnet18", "filter_size": 8}, "filter size 8"),
        ({"name": "resnet18", "num_classes": -1}, "num_classes must be a non-negative integer"),
        ({"name": "resnet18", "in_chans": 2.5}, "in_chans must be a positive integer"),
        ({"name": "resnet18", "pretrained": "finetuned_twice"}, "filter_size=4: finetuned"),
        ({"name": "resnet152", "filter_size": 3, "pretrained": True}, "filter_size=4: finetuned"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        az.create_model(**arguments)


def test_taps_of_ones_own() -> None:
    mine, tri4 = az.resnet18([1, 3, 3, 1]).eval(), az.resnet18(4).eval()
    tri4.load_state_dict(mine.state_dict())
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(mine(x), tri4(x))
    with pytest.raises(
        ValueError, match=r"no default weights for resnet18 with filter_size=\(0\.25, 0\.5, 0\.25\)\. There are"
    ):
        az.resnet18([1, 2, 1], pretrained=True)
    stem = az.alexnet(3, stem_stride=1, wide=True).features[1].blur_after
    assert (len(stem.blur.taps[0]), stem.stride) == (7, (4, 4))


def test_building_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    az.create_model("densenet121")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("call", ["enable", "disable"])
def test_importing_starts_no_full_collection_and_leaves_the_collector_as_it_was(call: str) -> None:
    code = f"""
import gc
seen = []
gc.{call}()
gc.callbacks.append(lambda phase, info: seen.append(info["generation"]))
import antialiased_zoo
del gc.callbacks[:]
print(gc.isenabled(), seen.count(2))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(call == "enable"), "0"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in COMPILED else pytest.mark.slow) for name in az.list_models()]
)
def test_compiles_whole_and_for_any_batch(name: str) -> None:
    torch.manual_seed(0)  # random weights may amplify rounding
    model = az.create_model(name, num_classes=10).eval()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for batch in (2, 3):
        x = torch.randn(batch, 3, 64, 64)
        torch._dynamo.mark_dynamic(x, 0)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
