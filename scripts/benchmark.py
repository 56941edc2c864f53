"""Times this package beside its peers: python scripts/benchmark.py [--short] [--parts layers networks ...].

Contestants take turns (A B A B ...) in one process, so that a shared machine's moods fall on all of them alike; every
ratio is the median of the turns' ratios, with their quartiles. Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import antialiased_zoo as az

OURS = "antialiased-zoo"
PEER = "antialiased-cnns"
FLOOR = "torchvision"
NINE = ("alexnet", "vgg16", "vgg16_bn", "resnet18", "resnet34", "resnet50", "resnet101", "densenet121", "mobilenet_v2")
SHORT = ("resnet18", "vgg16", "mobilenet_v2")
LAYOUTS = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}


@dataclass(frozen=True)
class Row:
    """One contest.

    Attributes:
        part: "layers", "networks" ...
        case: What was run.
        unit: Of the medians.
        medians: Contestant -> median.
        ratios: Contestant -> (lower quartile, median, upper quartile) of its figure over ours: above 1 we are ahead.
    """

    part: str
    case: str
    unit: str
    medians: Mapping[str, float]
    ratios: Mapping[str, tuple[float, float, float]]


def contest(part: str, case: str, runs: Mapping[str, Callable[[], float]], turns: int, unit: str = "ms") -> Row:
    """Let the contestants take turns; each run returns its own figure."""
    figures: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(turns + 1):
        for name, run in runs.items():
            figure = run()
            if turn:  # the first turn warms up
                figures[name].append(figure)
    ratios = {}
    for name, values in figures.items():
        each = [value / max(own, 1e-9) for value, own in zip(values, figures[OURS], strict=True)]
        low, middle, high = statistics.quantiles(each, n=4, method="inclusive") if len(each) > 1 else each * 3
        ratios[name] = (low, middle, high)
    return Row(part, case, unit, {name: statistics.median(values) for name, values in figures.items()}, ratios)


def timed(call: Callable[[], Any], device: torch.device) -> float:
    """Milliseconds of one call."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)
    start_time = time.perf_counter()
    call()
    return (time.perf_counter() - start_time) * 1e3


def peer(name: str) -> Any:
    """An installed package, or None."""
    with contextlib.suppress(ImportError), contextlib.redirect_stdout(io.StringIO()):
        return importlib.import_module(name)
    return None


def peer_network(name: str, filter_size: int = 4) -> nn.Module | None:
    published = peer("antialiased_cnns")
    if published is None:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        return getattr(published, name)(pretrained=False, filter_size=filter_size)


def blur_sites(names: Sequence[str], batch: int) -> dict[tuple[type[nn.Module], torch.Size], nn.Module]:
    """Every distinct (layer, input shape) at which the networks blur, at 224x224."""
    sites: dict[tuple[type[nn.Module], torch.Size], nn.Module] = {}

    def note(module: nn.Module, args: tuple[Tensor]) -> None:
        sites.setdefault((type(module), torch.Size([batch, *args[0].shape[1:]])), module)

    for name in names:
        model = az.create_model(name).eval()
        for module in model.modules():
            if isinstance(module, (az.Downsample, az.MaxBlurPool2d)):
                module.register_forward_pre_hook(note)
        with torch.inference_mode():
            model(torch.randn(1, 3, 224, 224))
    return sites


def published_layer(layer: nn.Module, channels: int) -> nn.Module | None:
    published = peer("antialiased_cnns")
    if published is None:
        return None
    blur = published.BlurPool(channels, filt_size=layer.filt_size, stride=2)
    if isinstance(layer, az.Downsample):
        return blur
    window = layer.window
    return nn.Sequential(nn.MaxPool2d(window.size, 1, window.padding), blur)


def layers(options: argparse.Namespace) -> Iterator[Row]:
    """Every blur site of the networks, forward and with backward, in both layouts."""
    sites = blur_sites(options.networks, options.batch)
    for (_, shape), layer in tqdm(sites.items(), "layers", disable=None):
        contestants: dict[str, nn.Module | None] = {OURS: layer, PEER: published_layer(layer, shape[1])}
        if kornia := peer("kornia"):
            blur = kornia.filters.BlurPool2D(4, 2)
            window = None if isinstance(layer, az.Downsample) else layer.window
            contestants["kornia"] = blur if window is None else kornia.filters.MaxBlurPool2D(4, 2, window.size[0])
        if (timm := peer("timm")) and isinstance(layer, az.Downsample):
            contestants["timm"] = timm.layers.BlurPool2d(shape[1], 4, 2)
        for layout, memory_format in LAYOUTS.items():
            x = torch.randn(shape, device=options.device).contiguous(memory_format=memory_format)
            for mode in ("forward", "forward + backward"):
                case = f"{type(layer).__name__} {tuple(shape)} {layout} {mode}"
                runs = {
                    name: partial(timed, step_of(module.to(options.device), x, mode), options.device)
                    for name, module in contestants.items()
                    if module is not None and works(module, x)
                }
                yield contest("layers", case, runs, options.turns)


def works(module: nn.Module, x: Tensor) -> bool:
    """False where a contestant cannot take this input at all."""
    try:
        with torch.inference_mode():
            module(x)
    except RuntimeError:
        return False
    return True


def step_of(module: nn.Module, x: Tensor, mode: str) -> Callable[[], Any]:
    def forward() -> None:
        with torch.inference_mode():
            module(x)

    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()

    def both() -> None:
        leaf.grad = None
        module(leaf).sum().backward()

    return forward if mode == "forward" else both


def networks(options: argparse.Namespace) -> Iterator[Row]:
    """Inference: each contestant in the better of its two layouts, and torchvision's plain network as the floor."""
    for name in tqdm(options.networks, "networks", disable=None):
        yield contest("networks", f"{name} inference", network_runs(name, options, network_forward), options.turns)


def training(options: argparse.Namespace) -> Iterator[Row]:
    """One step of SGD, each contestant in the better of its two layouts."""
    for name in tqdm(options.networks, "training", disable=None):
        yield contest("training", f"{name} step", network_runs(name, options, training_step), options.turns)


def network_runs(
    name: str, options: argparse.Namespace, make: Callable[[nn.Module, Tensor], Callable[[], Any]]
) -> dict[str, Callable[[], float]]:
    builders = {
        OURS: lambda: az.create_model(name),
        PEER: lambda: peer_network(name),
        FLOOR: lambda: az.create_model(name, filter_size=None),
    }
    steps: dict[str, list[Callable[[], Any]]] = {}
    for contestant, build in builders.items():
        for memory_format in LAYOUTS.values():
            model = build()
            if model is None:
                continue
            model = model.to(options.device, memory_format=memory_format)
            if options.compile:
                model = torch.compile(model)
            x = torch.randn(options.batch, 3, 224, 224, device=options.device).contiguous(memory_format=memory_format)
            step = make(model, x)
            with contextlib.suppress(RuntimeError):  # the peer cannot take channels-last where it reflects
                step()
                steps.setdefault(contestant, []).append(step)

    def best(contestant: str) -> float:
        return min(timed(step, options.device) for step in steps[contestant])

    return {contestant: partial(best, contestant) for contestant in steps}


def network_forward(model: nn.Module, x: Tensor) -> Callable[[], Any]:
    model.eval()

    def step() -> None:
        with torch.inference_mode():
            model(x)

    return step


def training_step(model: nn.Module, x: Tensor) -> Callable[[], Any]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    labels = torch.zeros(len(x), dtype=torch.long, device=x.device)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return step


_MEASURED = """
import json, time
def memory(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024
start = time.perf_counter()
{imports}
imported = time.perf_counter()
with open("/proc/self/clear_refs", "w") as refs:
    refs.write("5")  # forget the imports' own peak
before = memory("VmRSS")
{work}
loaded = time.perf_counter()
print(json.dumps([(loaded - imported) * 1e3, memory("VmHWM") - before, (loaded - start) * 1e3]))
"""
_OURS = ("import antialiased_zoo as az, torch, torchvision", "m = az.create_model({name!r}, 4, 'bench')")
_PEER = (
    "import antialiased_cnns, torch",
    "m = antialiased_cnns.{name}(pretrained=False, filter_size=4)\n"
    "m.load_state_dict(torch.load({path!r}, weights_only=True)['state_dict'])",
)
_IMPORTS = {OURS: "import antialiased_zoo", "torch": "import torch", FLOOR: "import torchvision"}


def load(options: argparse.Namespace) -> Iterator[Row]:
    """Build and load from a warm cache, imports aside, in a process of its own: time, and peak memory (Linux only)."""
    for name in tqdm(options.networks, "load", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            environment, path = bench_weights(name, Path(folder))
            scripts = {OURS: _OURS, PEER: _PEER} if peer("antialiased_cnns") else {OURS: _OURS}
            for index, (what, unit) in enumerate((("time", "ms"), ("memory", "MiB"))):
                runs = {
                    who: partial(in_process, [part.format(name=name, path=path) for part in parts], environment, index)
                    for who, parts in scripts.items()
                }
                yield contest("load", f"{name} build and load, {what}", runs, min(5, options.turns), unit)


def bench_weights(name: str, folder: Path) -> tuple[dict[str, str], str]:
    """A published-style checkpoint of random tensors in a cache of its own, and a manifest that lists it."""
    import hashlib

    model = peer_network(name) or az.create_model(name)
    path = folder / "hub" / "checkpoints" / "bench.pth"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": model.state_dict()}, path, _use_new_zipfile_serialization=False)
    entry = {"model": name, "filter_size": 4, "recipe": "bench", "file": path.name, "format": "pickle"}
    entry |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "sources": ["https://localhost/bench.pth"]}
    entry |= {"license": "own", "dataset": "noise", "num_classes": 1000, "preprocessing": {}}
    licenses = {"own": {"url": "https://localhost/", "commercial_use": True}}
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"schema": 1, "licenses": licenses, "entries": [entry]}))
    return {**os.environ, "TORCH_HOME": str(folder), "ANTIALIASED_ZOO_MANIFEST": str(manifest)}, str(path)


def in_process(parts: Sequence[str], environment: Mapping[str, str], index: int) -> float:
    code = _MEASURED.format(imports=parts[0], work=parts[1])
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])[index])


def imports(options: argparse.Namespace) -> Iterator[Row]:
    """`import antialiased_zoo` in a new process, beside torch's and torchvision's own."""
    runs = {who: partial(in_process, [code, ""], os.environ, 2) for who, code in _IMPORTS.items()}
    yield contest("imports", "import, new process", runs, options.turns)


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "layers": layers,
    "networks": networks,
    "training": training,
    "load": load,
    "imports": imports,
}


def markdown(rows: Sequence[Row]) -> str:
    """A table of ratios for each part, with the geometric mean of each contestant's."""
    text = []
    for part in dict.fromkeys(row.part for row in rows):
        mine = [row for row in rows if row.part == part]
        others = [name for name in dict.fromkeys(n for row in mine for n in row.ratios) if name != OURS]
        text.append(f"\n### {part}: the other's figure over ours (quartiles); above 1 ours is better\n")
        text.append(f"| case | {OURS} | " + " | ".join(others) + " |")
        text.append("| --- " * (len(others) + 2) + "|")
        for row in mine:
            cells = [_cell(row.ratios[name]) if name in row.ratios else "" for name in others]
            text.append(f"| {row.case} | {row.medians[OURS]:.4g} {row.unit} | " + " | ".join(cells) + " |")
        means = [_geometric([row.ratios[name][1] for row in mine if name in row.ratios]) for name in others]
        text.append("| **geometric mean** | | " + " | ".join(f"**{mean:.2f}**" for mean in means) + " |")
    return "\n".join(text)


def _cell(ratio: tuple[float, float, float]) -> str:
    low, middle, high = ratio
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def _geometric(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(math.log(max(value, 1e-9)) for value in values))


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures hold for."""
    names = ("torch", "torchvision", "antialiased-cnns", "timm", "kornia")
    versions = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else model
    return {"device": chip, "threads": torch.get_num_threads(), "python": platform.python_version(), **versions}


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--networks", nargs="+", choices=az.list_models(), default=list(NINE))
    parser.add_argument("--short", action="store_true", help="three networks, few turns: some minutes")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--device", type=torch.device, default="cpu")
    parser.add_argument("--compile", action="store_true", help="networks and training under torch.compile")
    parser.add_argument("--out", type=Path, help="a folder for benchmark.json and benchmark.md")
    options = parser.parse_args()
    options.device = torch.device(options.device)
    if options.short:
        options.networks, options.turns = list(SHORT), 5
    warnings.simplefilter("ignore")
    rows = [row for part in options.parts for row in PARTS[part](options)]
    facts = machine(options.device)
    text = f"{json.dumps(facts)}\n{markdown(rows)}\n"
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        found = {"machine": facts, "arguments": sys.argv[1:], "rows": [asdict(row) for row in rows]}
        (options.out / "benchmark.json").write_text(json.dumps(found, indent=1) + "\n")
        (options.out / "benchmark.md").write_text(text)


if __name__ == "__main__":
    main()
