"""The ways to deploy a network, each checked on one network; `deploy_checks.py` runs them."""

from __future__ import annotations

import contextlib
import copy
import io
import math
import resource
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from deploy_quantise import WAYS
from torch import Tensor, nn

from antialiased_zoo.adaptation import recalibrate
from antialiased_zoo.inference import export_model, load_exported

AXES = ("batch", "height", "width")
#: Exports are traced at the first size; dynamic axes are then tried at the others, of which one is smaller and odd, and
#: the last maps of one are larger than AlexNet's and VGG's adaptive pools.
SIZES = ((2, 3, 128, 160), (1, 3, 288, 256), (3, 3, 131, 97))
#: For `torch.compile`, which makes a graph of its own for batches of one.
COMPILED_SIZES = ((2, 3, 128, 160), (3, 3, 288, 256), (4, 3, 131, 97))
Row = dict[str, Any]


def export(model: nn.Module, dynamic: Sequence[str]) -> Row:
    """`torch.export`, and its outputs at each allowed size."""
    return _exported(model, "pt2", dynamic)


def export_named(model: nn.Module) -> Row:
    """`torch.export` with named axes, each with a range of sizes that a user might ask for."""
    ranges = {"batch": (1, 64), "height": (64, 512), "width": (64, 512)}
    shapes = {axis: torch.export.Dim(name, min=ranges[name][0], max=ranges[name][1]) for name, axis in _axes()}
    with clock() as row:
        program = torch.export.export(model, (_images(SIZES[0]),), dynamic_shapes=(shapes,))
    row["nodes"] = len(program.graph.nodes)
    return row | _compare(model, program.module(), SIZES)


def onnx(model: nn.Module, dynamic: Sequence[str]) -> Row:
    """ONNX from torch's exporter, run in ONNX Runtime."""
    import onnx as package

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        row = _exported(model, "onnx", dynamic, path)
        row["nodes"] = len(package.load(path).graph.node)
    return row


def aoti(model: nn.Module) -> Row:
    """An AOTInductor package with dynamic axes."""
    return _exported(model, "aoti", AXES)


def trace(model: nn.Module) -> Row:
    """`torch.jit.trace`, with gradients and without, each with torch's own check of the graph."""
    images = _images((1, 3, 224, 224))
    with clock() as row:
        for mode in (torch.enable_grad, torch.no_grad):
            with mode():
                traced = torch.jit.trace(model, images)
    return row | _compare(model, traced, [(1, 3, 224, 224)])


def script(model: nn.Module) -> Row:
    """`torch.jit.script`."""
    with clock() as row:
        scripted = torch.jit.script(model)
    return row | _compare(model, scripted, SIZES)


def legacy_onnx(model: nn.Module) -> Row:
    """ONNX from torch's old exporter, with dynamic axes."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/net.onnx"
        options: Any = {"dynamo": False, "opset_version": 17, "input_names": ["images"]}
        with clock() as row, contextlib.redirect_stdout(io.StringIO()):
            axes = {"images": {axis: name for name, axis in _axes()}}
            torch.onnx.export(model, (_images(SIZES[0]),), path, dynamic_axes=axes, **options)
        return row | _compare(model, load_exported(path), SIZES)


def compiled(model: nn.Module, dynamic: bool | None) -> Row:
    """`torch.compile` at three sizes: the time at each, and the number of graphs afterwards."""
    from torch._dynamo.utils import counters
    from torch._inductor.utils import fresh_cache

    torch.compiler.reset()
    counters.clear()
    network = torch.compile(model, dynamic=dynamic)
    row: Row = {"each": [], "difference": 0.0, "graphs": []}
    with torch.no_grad(), fresh_cache():  # otherwise code compiled in another library's turn is reused
        for size in COMPILED_SIZES:
            with clock() as one:
                network(_images(size))
            row["each"].append(one["seconds"])
            row["graphs"].append(counters["stats"]["unique_graphs"])
            row["difference"] = max(row["difference"], _compare(model, network, [size])["difference"])
    return row | {"seconds": round(sum(row["each"]), 1)}


def int8(model: nn.Module, ways: Sequence[str]) -> Row:
    """Ways to quantise, calibrated on noise, and the largest error."""
    row: Row = {"difference": 0.0, "seconds": 0.0}
    seen = torch.cat([_images(SIZES[0], seed) for seed in range(4)])
    recalibrate(model, [seen])  # otherwise an untrained MobileNetV2's maps are too small for eight bits
    for way in ways:
        twin = copy.deepcopy(model)
        with clock() as one:
            network = WAYS[way](twin, seen)
        row["seconds"] = round(row["seconds"] + one["seconds"], 1)
        row["difference"] = max(row["difference"], _compare(model, network, SIZES[:1])["difference"])
    return row


def warm_up(check: str) -> None:
    """Run the check on a small network, so that all imports are done."""
    with contextlib.suppress(Exception):
        layers = (nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
        CHECKS[check](nn.Sequential(*layers).eval())


@contextlib.contextmanager
def clock() -> Iterator[Row]:
    """CPU seconds of this process and its children, which other load on the machine hardly affects."""
    row: Row = {}
    before = _processor_seconds()
    yield row
    row["seconds"] = round(_processor_seconds() - before, 1)


def _processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _exported(model: nn.Module, format: str, dynamic: Sequence[str], path: Path | None = None) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        path = path or Path(folder) / "net.pt2"
        with clock() as row:
            export_model(model, path, format=format, input_size=SIZES[0][1:], dynamic=dynamic)
        network = load_exported(path)
        if format == "pt2":
            row["nodes"] = len(torch.export.load(path).graph.nodes)
        return row | _compare(model, network, SIZES if dynamic else [(1, *SIZES[0][1:])])


def _compare(model: nn.Module, network: Callable[[Tensor], Tensor], sizes: Sequence[tuple[int, ...]]) -> Row:
    """The largest difference at any of the sizes, relative to the largest output."""
    worst = 0.0
    for size in sizes:
        images = _images(size)
        with torch.no_grad():
            expected, got = model(images), network(images)
        if got.shape != expected.shape:
            raise ValueError(f"at {size} the output is {tuple(got.shape)}, not {tuple(expected.shape)}")
        difference = float((got - expected).abs().max() / expected.abs().max())
        if not math.isfinite(difference):
            raise ValueError(f"at {size} the difference is {difference}")
        worst = max(worst, difference)
    return {"difference": worst}


def _images(size: tuple[int, ...], seed: int = 1) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def _axes() -> list[tuple[str, int]]:
    return [("batch", 0), ("height", 2), ("width", 3)]


CHECKS: dict[str, Callable[[nn.Module], Row]] = {
    "export": lambda model: export(model, ()),
    "export dynamic": lambda model: export(model, AXES),
    "export named": export_named,
    "ONNX": lambda model: onnx(model, ()),
    "ONNX dynamic": lambda model: onnx(model, AXES),
    "trace": trace,
    "script": script,
    "ONNX legacy": legacy_onnx,
    "compile": lambda model: compiled(model, None),
    "compile dynamic": lambda model: compiled(model, True),
    "AOTInductor": aoti,
    "PT2E int8": lambda model: int8(model, ["PT2E static int8"]),
    "torchao int8": lambda model: int8(model, ["torchao int8 weights", "torchao dynamic int8"]),
}


def build(library: str, name: str) -> nn.Module:
    """A network of one of the libraries, untrained."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if library == "torchvision":
            import torchvision

            return torchvision.models.get_model(name).eval()
        if library == "antialiased-cnns":
            import antialiased_cnns

            return getattr(antialiased_cnns, name)().eval()
        import antialiased_zoo as az

        return az.create_model(name).eval()
