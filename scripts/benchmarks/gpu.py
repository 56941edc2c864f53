"""The GPU part: the blur's speed relative to a copy, and the networks, within a time budget.

Each case is written when it is done, and the same command resumes after the last one. The most important cases come
first. On a CPU the part runs without the kernel, as a test.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import antialiased_zoo as az
from antialiased_zoo.training import check_settings
from antialiased_zoo.weights import replacing

from .contest import OURS, timed
from .layers import LAYOUTS, blur_sites, step_of
from .networks import network_forward, training_step
from .peers import FLOOR, PEER, peer, peer_network
from .report import machine

_PLAIN = "antialiased-zoo, torch's operators"
_TIMM = {"resnet18": "resnetblur18", "resnet50": "resnetblur50"}
#: The networks whose every case comes before those of the others.
_FIRST = ("resnet18", "resnet50")
_SMALL = ((1, 64, 14, 14), (8, 64, 56, 56), (32, 64, 28, 28))

Case = tuple[str, Callable[[], Mapping[str, Any]]]


def gpu(options: argparse.Namespace) -> None:
    """Run the cases that are not in the record yet, until the time is up.

    Raises:
        ValueError: If the record is from another GPU, commit or setting.
    """
    folder = options.out or Path("results/benchmark/gpu")
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "gpu.jsonl"
    facts = {"case": "machine", **machine(options.device)}
    facts |= {"batch": options.batch, "size": options.size, "turns": options.turns}
    first, *rows = _begun(record, facts)
    check_settings(record, first, facts)
    done = {row["case"] for row in rows}
    left = [
        (name, run) for name, run in _cases(options) if name not in done and all(part in name for part in options.cases)
    ]
    until = time.monotonic() + 60 * options.minutes
    for i, (name, run) in enumerate(left):
        if time.monotonic() > until:
            print(f"{len(left) - i} cases are left: run the same command again")
            return
        try:
            found = dict(run())
        except (RuntimeError, torch.cuda.OutOfMemoryError) as error:  # a failure is a result too
            found = {"error": f"{type(error).__name__}: {error}"[:500]}
        with record.open("a") as file:
            file.write(json.dumps({"case": name, **found}) + "\n")
        print(name, json.dumps(found), flush=True)
        gc.collect()


def _begun(record: Path, facts: Mapping[str, Any]) -> list[Any]:
    """The rows of a record, without one that was being written; a new one begins with these facts."""
    text = record.read_text(encoding="utf-8") if record.exists() else ""
    whole = text[: text.rfind("\n") + 1] or json.dumps(facts) + "\n"
    if whole != text:
        with replacing(record) as temporary:
            temporary.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def _cases(options: argparse.Namespace) -> Iterator[Case]:
    yield "copy", partial(_copy, options)
    with options.device:
        every = blur_sites(options.networks, options.batch)
    sites = dict(_blurred_map(layer, shape) for (_, shape), layer in every.items())
    for shape in _SMALL:
        for layout in LAYOUTS:
            yield f"small map {shape}, {layout}", partial(_small, shape, layout, options)
    first = [name for name in _FIRST if name in options.networks]
    yield from _network_cases(first, options)
    for place, shape in enumerate(sorted(sites, key=lambda shape: -shape.numel())):
        for layout in LAYOUTS:
            is_largest = place == 0  # which is compiled too, and comes in float32 too
            case = partial(_layer, sites[shape], shape, layout, is_largest, options)
            yield f"layer {tuple(shape)}, {layout}", partial(case, _dtype(options))
            if is_largest:
                yield f"layer {tuple(shape)}, {layout}, float32", partial(case, torch.float32)
    yield from _network_cases([name for name in options.networks if name not in first], options)


def _network_cases(names: Sequence[str], options: argparse.Namespace) -> Iterator[Case]:
    for layout, is_compiled in (("channels-last", False), ("channels-last", True), ("NCHW", False)):
        how = "compiled" if is_compiled else "eager"
        for name in names:
            for mode, make in (("inference", network_forward), ("training", training_step)):
                case = f"{name}, {mode}, {layout}, {how}, batch {options.batch}"
                yield case, partial(_network, name, make, layout, is_compiled, options)


def _blurred_map(layer: nn.Module, shape: torch.Size) -> tuple[torch.Size, nn.Module]:
    """The map that a layer blurs, and its blur as a layer: a pool blurs its dense maximum."""
    if not isinstance(layer, az.MaxBlurPool2d):
        return shape, layer
    pool = nn.MaxPool2d(layer.window.size, 1, layer.window.padding)
    return pool(torch.empty(shape, device="meta")).shape, az.Downsample(
        filt_size=layer.filt_size, stride=layer.blur.stride
    )


def _dtype(options: argparse.Namespace) -> torch.dtype:
    return torch.bfloat16 if options.device.type == "cuda" else torch.float32


def _copy(options: argparse.Namespace) -> dict[str, Any]:
    """GB/s of torch's copy, read and written; on a GPU of 411 MB, the map of a ResNet's stem at batch 256."""
    images = 256 if options.device.type == "cuda" else options.batch
    x = torch.randn(images * 64 * 112 * 112, device=options.device, dtype=_dtype(options))
    y = torch.empty_like(x)
    figures = _turns({"copy": lambda: y.copy_(x)}, options)["copy"]
    return {"GB/s": 2 * x.nbytes / figures["ms"] / 1e6, **figures}


def _small(shape: tuple[int, ...], layout: str, options: argparse.Namespace) -> dict[str, Any]:
    """Microseconds of the calls, which launch kernels one after the other and then wait for the last."""
    x = torch.randn(shape, device=options.device, dtype=_dtype(options)).contiguous(memory_format=LAYOUTS[layout])
    layer = az.Downsample(shape[1]).to(options.device)
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    grad = torch.randn_like(layer(x))
    steps = {
        "forward": step_of(layer, x, "forward"),
        "forward + backward": lambda: torch.autograd.grad(layer(leaf), leaf, grad),
    }
    found: dict[str, Any] = {}
    for mode, step in steps.items():
        runs = {name: _with_kernel(step, use) for name, use in _ways(options)}
        turns = [{name: _called(run, options) for name, run in runs.items()} for _ in range(options.turns + 1)]
        found[mode] = {name: statistics.median(turn[name] for turn in turns[1:]) for name in runs}
    return found


def _called(run: Callable[[], Any], options: argparse.Namespace) -> float:
    """Microseconds of a call, the mean of a hundred and of the wait for the last."""
    is_gpu = options.device.type == "cuda"
    if is_gpu:
        torch.cuda.synchronize(options.device)
    start = time.perf_counter()
    for _ in range(100):
        run()
    if is_gpu:
        torch.cuda.synchronize(options.device)
    return (time.perf_counter() - start) * 1e6 / 100


def _layer(
    layer: nn.Module,
    shape: torch.Size,
    layout: str,
    is_compiled: bool,
    options: argparse.Namespace,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Milliseconds of the kernel, of torch's operators, perhaps compiled, and of a copy of as many bytes."""
    x = torch.randn(shape, device=options.device, dtype=dtype).contiguous(memory_format=LAYOUTS[layout])
    layer = layer.to(options.device)
    found: dict[str, Any] = {"MB": x.nbytes / 1e6}
    with _kernel(False):
        exact = layer(x.float())
    found["relative difference"] = ((layer(x).float() - exact).norm() / exact.norm()).item()
    for mode in ("forward", "backward"):
        source = torch.empty(int(x.numel() * 1.25 / 2), device=x.device, dtype=x.dtype)
        runs = {"copy": partial(torch.empty_like(source).copy_, source)}
        for name, use in _ways(options):
            with _kernel(use):
                runs[name] = _with_kernel(_step(layer, x, mode), use)
        if is_compiled:
            torch.compiler.reset()
            with _kernel(False):  # the graph of the backward pass is made here
                runs[f"{_PLAIN}, compiled"] = _with_kernel(_step(torch.compile(layer), x, mode), False)
        found[mode] = _turns(runs, options, 5, _long_work(options))
        found[mode]["share of the copy's speed"] = {
            name: found[mode]["copy"]["ms"] / figures["ms"] for name, figures in found[mode].items()
        }
    return found


def _step(layer: nn.Module, x: Tensor, mode: str) -> Callable[[], Any]:
    """The forward pass, or the backward pass alone, with a ready gradient, since making one is not the layer's work."""
    if mode == "forward":
        return step_of(layer, x, mode)
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = layer(leaf)
    grad = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, leaf, grad, retain_graph=True)


def _network(
    name: str,
    make: Callable[[nn.Module, Tensor], Callable[[], Any]],
    layout: str,
    is_compiled: bool,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Milliseconds and peak memory of each contestant's step, under AMP."""
    x = torch.randn(options.batch, 3, options.size, options.size, device=options.device)
    x = x.contiguous(memory_format=LAYOUTS[layout])
    builders: dict[str, Callable[[], nn.Module | None]] = {FLOOR: partial(az.create_model, name, filter_size=None)}
    builders |= {way: partial(az.create_model, name) for way, _ in _ways(options) if way == OURS or not is_compiled}
    if not is_compiled:  # the others would take a minute each
        builders[PEER] = partial(peer_network, name)
        if name in _TIMM and (timm := peer("timm")):
            builders[f"timm {_TIMM[name]}"] = partial(timm.create_model, _TIMM[name])
    torch.compiler.reset()
    steps, failed = {}, {}
    for who, build in builders.items():
        with options.device:  # where random weights are made in no time
            model = build()
        if model is None:
            continue
        model = model.to(options.device, memory_format=LAYOUTS[layout]).train()
        model.forward = torch.autocast(options.device.type, torch.bfloat16, enabled=options.device.type == "cuda")(
            model.forward
        )
        step = _with_kernel(make(torch.compile(model) if is_compiled else model, x), dict(_ways(options)).get(who))
        try:
            step()
        except RuntimeError as error:  # antialiased-cnns cannot take some maps in channels-last
            failed[who] = str(error)[:200]
        else:
            steps[who] = step
    found: dict[str, Any] = _turns(steps, options, 2)
    found["time beside torchvision's"] = {who: figures["ms"] / found[FLOOR]["ms"] for who, figures in found.items()}
    return {**found, **({"failed": failed} if failed else {})}


def _long_work(options: argparse.Namespace) -> Callable[[], Any] | None:
    """A matrix product of some milliseconds, behind which a layer's kernels queue; on a CPU none."""
    if options.device.type != "cuda":
        return None
    factor = torch.randn(8192, 8192, device=options.device, dtype=torch.bfloat16)
    return lambda: (factor @ factor) @ factor


def _turns(
    runs: Mapping[str, Callable[[], Any]],
    options: argparse.Namespace,
    calls: int = 3,
    before: Callable[[], Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """Medians and quartiles of interleaved turns after a warm-up, and the peak memory of one call."""
    figures: dict[str, list[float]] = {name: [] for name in runs}
    memory = {}
    for name, run in runs.items():
        timed(run, options.device, 2)
        if options.device.type == "cuda":
            torch.cuda.synchronize(options.device)
            torch.cuda.reset_peak_memory_stats(options.device)
            held = torch.cuda.memory_allocated(options.device)
            run()
            torch.cuda.synchronize(options.device)
            memory[name] = {"peak MiB": (torch.cuda.max_memory_allocated(options.device) - held) / 2**20}
    for _ in range(options.turns):
        for name, run in runs.items():
            figures[name].append(timed(run, options.device, calls, before))
    found = {}
    for name, each in figures.items():
        low, middle, high = statistics.quantiles(each, n=4, method="inclusive") if len(each) > 1 else each * 3
        found[name] = {"ms": middle, "quartiles": [low, high], **memory.get(name, {})}
    return found


def _ways(options: argparse.Namespace) -> list[tuple[str, bool | None]]:
    """Names and arguments of `use_gpu_kernels`: the default, and without the kernel where it would be used."""
    ways: list[tuple[str, bool | None]] = [(OURS, None)]
    return [*ways, (_PLAIN, False)] if options.device.type == "cuda" else ways


@contextmanager
def _kernel(use: bool | None) -> Iterator[None]:
    before = az.use_gpu_kernels(use)
    try:
        yield
    finally:
        az.use_gpu_kernels(before)


def _with_kernel(step: Callable[[], Any], use: bool | None) -> Callable[[], Any]:
    def run() -> None:
        with _kernel(use):
            step()

    return run
