"""Networks as files: each format computes what the network computes, at every size that is left open."""

from __future__ import annotations

import cProfile
import pstats
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import antialiased_cnns
import pytest
import torch
from torch import nn

import antialiased_zoo as az
from antialiased_zoo.inference.accepted_images import AcceptedImages
from antialiased_zoo.inference.adaptive_pool import replace_adaptive_pools
from antialiased_zoo.layers import OffsetDownsample, SamePadConv2d

AXES = ("batch", "height", "width")
SIZES = ((2, 3, 40, 36), (1, 3, 33, 47), (3, 3, 64, 44))


def plain_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
        *(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    ).eval()


def small_network() -> nn.Module:
    return az.antialias(plain_network(), stem_stride=1)


@pytest.mark.parametrize("format", ["pt2", "onnx"])
def test_each_format_at_open_sizes(format: str, tmp_path: Path) -> None:
    if format == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    net = small_network()
    path = az.export_model(net, tmp_path / "net.pt2", format=format, input_size=SIZES[0][1:], dynamic=AXES)
    exported = az.load_exported(path)  # the format is read from the file
    for size in SIZES:
        images = torch.randn(size)
        with torch.no_grad():
            torch.testing.assert_close(exported(images), net(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow  # a C++ compiler takes most of it
def test_a_package_at_open_sizes(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("AOTInductor needs a C++ compiler")
    # Each operation more takes seconds to compile; by itself, AOTInductor gets the pool wrong at other sizes.
    net = nn.Sequential(nn.Conv2d(3, 8, 3), az.Downsample(8), nn.AdaptiveAvgPool2d(3)).eval()
    path = az.export_model(net, tmp_path / "net.pt2", format="aoti", input_size=SIZES[0][1:], dynamic=AXES)
    exported = az.load_exported(path)
    for size in SIZES:
        images = torch.randn(size)
        torch.testing.assert_close(exported(images), net(images).detach(), rtol=1e-4, atol=1e-5)
    photo = torch.randn(1, 40, 36, 3).permute(0, 3, 1, 2)  # as NumPy's photos are: compiled code takes strides as given
    torch.testing.assert_close(exported(photo), net(photo).detach(), rtol=1e-4, atol=1e-5)
    for wrong in (torch.randn(1, 3, 4, 40), torch.randn(1, 4, 40, 40), torch.randn(1, 3, 40, 40).double()):
        with pytest.raises(ValueError, match=r"float32 \(0 or more\) x 3 x \(5 or more\) x \(5 or more\), got"):
            exported(wrong)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's file that is always full")
@pytest.mark.parametrize("format", ["pt2", "onnx"])
def test_a_full_disk_is_an_error_of_the_system(format: str) -> None:
    if format == "onnx":
        pytest.importorskip("onnxscript")
    with pytest.raises(OSError, match="No space left on device"):
        az.export_model(nn.Conv2d(3, 8, 3), "/dev/full", format=format, input_size=(3, 8, 8))


def test_the_images_that_a_program_accepts_are_its_ranges() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), az.Downsample(8))
    open_axes = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    # A map smaller than the padding is reflected by other code, which stays if one axis is as small.
    for side, sizes in ((40, ((5, None), (5, None))), (4, ((3, 4), (3, None)))):
        images = torch.randn(1, 3, side, side)
        program = torch.export.export(net, (images,), dynamic_shapes=(open_axes,), strict=False)
        accepted = AcceptedImages.of(program)
        assert accepted == AcceptedImages("float32", ((1, 1), (3, 3), *sizes))
        assert AcceptedImages.from_text(accepted.to_text()) == accepted
        assert accepted.has_upper_limit == (side == 4)


def test_images_too_small_for_open_sizes_are_refused_for_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    net = nn.Sequential(nn.Conv2d(3, 8, 3), az.Downsample(8))
    with pytest.raises(ValueError, match=r"for images of 4 x 4, .* use a larger input_size"):
        az.export_model(net, tmp_path / "net.onnx", input_size=(3, 4, 4), dynamic=["height", "width"])


LAYERS = {
    "reflect": az.Downsample(4, filt_size=5),
    "replicate": az.Downsample(4, "replicate", 7, stride=3),
    "zero": az.Downsample(pad_type="zero", filt_size=3, stride=(2, 1)),
    "max": az.MaxBlurPool2d((3, 2), stride=2, padding=1, ceil_mode=True),
    "average": az.AvgBlurPool2d(2),
    "average of more than the blur": az.AvgBlurPool2d((6, 5), 3, stride=(2, 3), padding=(1, 0)),
    "average, ceil": az.AvgBlurPool2d(3, 2, stride=(2, 3), ceil_mode=True),
    "average, ceil, less": az.AvgBlurPool2d((2, 4), 5, stride=(4, 3), padding=(1, 2), ceil_mode=True),
    "offsets": OffsetDownsample(((1, 0), (1, 2, 0)), (2, 3)),
    "offsets, two taps": OffsetDownsample(((1, 0), (1, 0)), (2, 2), filt_size=2),
    "upsample": az.BlurUpsample(4),
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_exports_with_named_ranges_and_as_a_small_graph(name: str) -> None:
    """One graph for every size in the range: pads, one convolution, and arithmetic on sizes."""
    layer = LAYERS[name]
    height, width = (torch.export.Dim(axis, min=8, max=64) for axis in ("height", "width"))
    program = torch.export.export(layer, (torch.randn(2, 4, 16, 24),), dynamic_shapes=({2: height, 3: width},))
    for size in ((8, 8), (64, 33), (9, 10)):
        x = torch.randn(2, 4, *size)
        torch.testing.assert_close(program.module()(x), layer(x))
    names = [str(node.target) for node in program.graph.nodes]
    operators = [name for name in names if "aten" in name and "sym_size" not in name]
    assert len([name for name in operators if "conv" in name]) == 1
    assert len(operators) <= 7, operators


def test_sizes_in_an_exported_graph_do_not_double_from_layer_to_layer() -> None:
    """Otherwise EfficientNet-Lite0's took a minute to export and many to load."""
    units = [(SamePadConv2d(4, 4, 3, stride=2), nn.MaxPool2d(3, 2, ceil_mode=True)) for _ in range(2)]
    net = az.antialias(nn.Sequential(SamePadConv2d(3, 4, 3, stride=2), *(layer for unit in units for layer in unit)))
    shapes = ({2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)
    program = torch.export.export(net.eval(), (torch.randn(2, 3, 150, 150),), dynamic_shapes=shapes)
    sizes = [str(size) for node in program.graph.nodes for size in getattr(node.meta.get("val"), "shape", ())]
    assert max(map(len, sizes)) < 100, max(sizes, key=len)  # each subsampling adds a few characters
    for size in ((150, 150), (151, 152), (171, 199)):
        images = torch.randn(2, 3, *size)
        torch.testing.assert_close(program.module()(images), net(images))


def test_adaptive_pools_are_right_at_smaller_and_larger_sizes(tmp_path: Path) -> None:
    """torch's exporter is silently wrong here."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)

    class Pools(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sizes = ((6, 5), (3, 3), (1, 4))
            return torch.cat([nn.functional.adaptive_avg_pool2d(x, size).flatten(1) for size in sizes], 1)

    net = nn.Sequential(nn.Conv2d(3, 2, 3), Pools())
    network = az.load_exported(az.export_model(net, tmp_path / "n.onnx", input_size=(3, 20, 22), dynamic=AXES))
    for size in ((20, 22), (31, 18), (7, 40), (41, 44), (8, 7)):
        images = torch.randn(2, 3, *size)
        torch.testing.assert_close(network(images), net(images), rtol=1e-4, atol=1e-5)


def test_the_form_of_adaptive_pools_in_exported_code() -> None:
    """It is the pool, in one and two axes; a mean over the map stays."""
    pools = nn.ModuleList([nn.AdaptiveAvgPool2d((6, 5)), nn.AdaptiveAvgPool2d(1)])
    shapes = ({2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)

    class Both(nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [*(pool(x) for pool in pools), nn.functional.adaptive_avg_pool1d(x[0], 7)]

    program = torch.export.export(Both(), (torch.randn(2, 3, 20, 22),), dynamic_shapes=shapes)
    replaced = replace_adaptive_pools(program)
    assert len([node for node in replaced.graph.nodes if "adaptive" in str(node.target)]) == 1
    for size in ((20, 22), (31, 18), (3, 40), (5, 6)):
        x = torch.randn(2, 3, *size, dtype=torch.float32)
        torch.testing.assert_close(replaced.module()(x), Both()(x))


@pytest.mark.parametrize("pool", [nn.AdaptiveMaxPool2d((2, 1)), nn.Sequential(nn.Flatten(2), nn.AdaptiveMaxPool1d(4))])
def test_adaptive_max_pools_are_refused_at_open_sizes(pool: nn.Module, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3), pool)
    with pytest.raises(ValueError, match="leave height and width out of the dynamic axes, or export as pt2"):
        az.export_model(net, tmp_path / "n.pt2", format="aoti", input_size=(3, 20, 22), dynamic=["height"])
    file = az.export_model(net, tmp_path / "n.pt2", format="pt2", input_size=(3, 20, 22), dynamic=["height"])
    images = torch.randn(1, 3, 31, 22)
    torch.testing.assert_close(az.load_exported(file)(images), net(images))


def test_the_modes_of_a_model_stay_and_the_export_is_of_evaluation(tmp_path: Path) -> None:
    net = small_network().train()
    net[1].eval()
    path = az.export_model(net, tmp_path / "net.pt2", format="pt2", input_size=(3, 32, 32))
    assert [net.training, net[0].training, net[1].training] == [True, True, False]
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(az.load_exported(path)(images), net.eval()(images))
    with pytest.raises((ValueError, RuntimeError, AssertionError)):  # what was not left open is not taken
        az.load_exported(path)(torch.randn(1, 3, 36, 32))


@pytest.mark.parametrize("format", ["pt2", "onnx"])
def test_every_output_of_a_network_is_returned(format: str, tmp_path: Path) -> None:
    if format == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    net = az.create_model("alexnet", features_only=True, out_indices=(0, 2)).eval()
    network = az.load_exported(az.export_model(net, tmp_path / "net", format=format, input_size=(3, 80, 80)))
    images = torch.randn(1, 3, 80, 80)
    with torch.no_grad():
        torch.testing.assert_close(network(images), net(images), rtol=1e-4, atol=1e-5)


def test_a_compiled_network_is_exported_as_what_was_compiled(tmp_path: Path) -> None:
    net = small_network()
    path = az.export_model(
        torch.compile(net), tmp_path / "net.pt2", format="pt2", input_size=(3, 40, 36), dynamic="batch"
    )
    images = torch.randn(3, 3, 40, 36)
    torch.testing.assert_close(az.load_exported(path)(images), net(images).detach())


def test_arguments_are_checked(tmp_path: Path) -> None:
    net = nn.Conv2d(3, 4, 1)
    with pytest.raises(ValueError, match="format must be one of onnx, pt2, aoti, got 'onxx'"):
        az.export_model(net, tmp_path / "a", format="onxx")
    with pytest.raises(ValueError, match="format must be one of onnx, pt2, aoti, got 'tflite'"):
        az.load_exported(tmp_path / "a", format="tflite")
    with pytest.raises(ValueError, match="dynamic axes must be among batch, height, width; got depth"):
        az.export_model(net, tmp_path / "a", dynamic=("batch", "depth"))
    with pytest.raises(ValueError, match=r"must end in \.pt2"):
        az.export_model(net, tmp_path / "a.so", format="aoti")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        az.load_exported(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"needs onnx: pip install 'antialiased-zoo\[export\]'"):
        az.export_model(nn.Conv2d(3, 4, 1), tmp_path / "net.onnx", format="onnx")


def graphs_made(net: nn.Module, dynamic: bool | None) -> list[int]:
    """How many graphs `torch.compile` has made after each size."""
    made, graphs = [], []

    def run_as_it_is(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    compiled = torch.compile(net, backend=run_as_it_is, dynamic=dynamic)
    for size in ((2, 3, 40, 36), (4, 3, 33, 47), (3, 3, 64, 43)):
        images = torch.randn(size)
        torch.testing.assert_close(compiled(images), net(images))
        made.append(len(graphs))
    return made


def test_new_sizes_compile_no_oftener_than_in_the_plain_network() -> None:
    assert graphs_made(small_network(), None) == graphs_made(plain_network(), None) == [1, 2, 2]
    assert graphs_made(small_network(), True) == [1, 1, 1]


@pytest.mark.parametrize("name", ["offsets", "average, ceil, less"])
def test_layers_whose_padding_depends_on_the_size_compile_once(name: str) -> None:
    assert graphs_made(nn.Sequential(LAYERS[name]), True) == [1, 1, 1]


def test_exporting_and_tracing_take_as_many_steps_as_the_published_layer() -> None:
    """Calls of Python functions, which unlike seconds do not depend on the machine."""
    axes = ({0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)
    images = (torch.randn(2, 8, 20, 24),)
    ways: dict[str, Callable[[nn.Module], object]] = {
        "export": lambda net: torch.export.export(net, images, dynamic_shapes=axes),
        "trace": lambda net: torch.jit.trace(net, images),
    }
    for name, way in ways.items():
        calls = []
        for blur in (antialiased_cnns.BlurPool(8), antialiased_cnns.BlurPool(8), az.Downsample(8)):  # one to warm up
            profile = cProfile.Profile()
            profile.runcall(way, nn.Sequential(nn.Conv2d(8, 8, 3), blur))
            calls.append(pstats.Stats(profile).total_calls)
        assert calls[2] <= 1.3 * calls[1], name


def test_the_page_shows_the_records() -> None:
    from deploy_checks import INT8, LATENCY, PAGE, RECORD, read
    from deploy_tables import put_tables

    page = PAGE.read_text()
    assert put_tables(page, read(RECORD), read(LATENCY), read(INT8)) == page
