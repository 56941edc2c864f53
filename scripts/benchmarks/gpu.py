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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import antialiased_zoo as az
from antialiased_zoo.training import check_settings

from .contest import OURS, timed
from .layers import LAYOUTS, blur_sites, step_of
from .networks import network_forward, training_step
from .peers import FLOOR, PEER, peer, peer_network
from .report import machine

_PLAIN = "antialiased-zoo, torch's operators"
_TIMM = {"resnet18": "resnetblur18", "resnet50": "resnetblur50"}
#: A case takes as long to compile as ten eager ones take to run, so only these are compiled before NCHW's turn.
_COMPILED = ("resnet18", "resnet50")
_COMPILED_LAYERS = 2

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
    if not record.exists():
        record.write_text(json.dumps(facts) + "\n")
    first, *rows = (json.loads(line) for line in record.read_text().splitlines())
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


def _cases(options: argparse.Namespace) -> Iterator[Case]:
    yield "copy", partial(_copy, options)
    with options.device:
        every = blur_sites(options.networks, options.batch)
    sites = {shape: layer for (kind, shape), layer in every.items() if issubclass(kind, az.Downsample)}
    for place, shape in enumerate(sorted(sites, key=lambda shape: -shape.numel())):
        for layout in LAYOUTS:
            is_compiled = place < _COMPILED_LAYERS
            yield f"layer {tuple(shape)}, {layout}", partial(_layer, sites[shape], shape, layout, is_compiled, options)
    last, first = reversed(LAYOUTS), [name for name in _COMPILED if name in options.networks]
    names = [*first, *(name for name in options.networks if name not in first)]
    eager = [(name, layout, False) for layout in last for name in names]
    compiled = [(name, "channels-last", True) for name in names]
    count, soon = len(names), len(first)
    order = [*eager[:count], *compiled[:soon], *eager[count:], *compiled[soon:]]
    for name, layout, is_compiled in order:
        how = "compiled" if is_compiled else "eager"
        for mode, make in (("inference", network_forward), ("training", training_step)):
            case = f"{name}, {mode}, {layout}, {how}, batch {options.batch}"
            yield case, partial(_network, name, make, layout, is_compiled, options)


def _dtype(options: argparse.Namespace) -> torch.dtype:
    return torch.bfloat16 if options.device.type == "cuda" else torch.float32


def _copy(options: argparse.Namespace) -> dict[str, Any]:
    """GB/s of torch's copy, read and written; on a GPU of 411 MB, the map of a ResNet's stem at batch 256."""
    images = 256 if options.device.type == "cuda" else options.batch
    x = torch.randn(images * 64 * 112 * 112, device=options.device, dtype=_dtype(options))
    y = torch.empty_like(x)
    figures = _turns({"copy": lambda: y.copy_(x)}, options)["copy"]
    return {"GB/s": 2 * x.nbytes / figures["ms"] / 1e6, **figures}


def _layer(
    layer: nn.Module, shape: torch.Size, layout: str, is_compiled: bool, options: argparse.Namespace
) -> dict[str, Any]:
    """Milliseconds of the kernel, of torch's operators, perhaps compiled, and of a copy of as many bytes."""
    x = torch.randn(shape, device=options.device, dtype=_dtype(options)).contiguous(memory_format=LAYOUTS[layout])
    layer = layer.to(options.device)
    found: dict[str, Any] = {"MB": x.nbytes / 1e6}
    with _kernel(False):
        exact = layer(x.float())
    found["relative difference"] = ((layer(x).float() - exact).norm() / exact.norm()).item()
    for mode in ("forward", "backward"):
        source = torch.empty(int(x.numel() * 1.25 / 2), device=x.device, dtype=x.dtype)
        runs = {"copy": partial(torch.empty_like(source).copy_, source)}
        for name, use in _WAYS.items():
            if use is not False or _can_use_kernel(options):
                with _kernel(use):
                    runs[name] = _with_kernel(_step(layer, x, mode), use)
        if is_compiled:
            torch.compiler.reset()
            with _kernel(False):  # the graph of the backward pass is made here
                runs[f"{_PLAIN}, compiled"] = _with_kernel(_step(torch.compile(layer), x, mode), False)
        found[mode] = _turns(runs, options, 5)
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
    builders: dict[str, Callable[[], nn.Module | None]] = {
        FLOOR: partial(az.create_model, name, filter_size=None),
        OURS: partial(az.create_model, name),
        PEER: partial(peer_network, name),
    }
    if name in _TIMM and (timm := peer("timm")):
        builders[f"timm {_TIMM[name]}"] = partial(timm.create_model, _TIMM[name])
    if _can_use_kernel(options):
        builders[_PLAIN] = builders[OURS]
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
        step = _with_kernel(make(torch.compile(model) if is_compiled else model, x), _WAYS.get(who))
        try:
            step()
        except RuntimeError as error:  # antialiased-cnns cannot take some maps in channels-last
            failed[who] = str(error)[:200]
        else:
            steps[who] = step
    found: dict[str, Any] = _turns(steps, options, 2)
    found["time beside torchvision's"] = {who: figures["ms"] / found[FLOOR]["ms"] for who, figures in found.items()}
    return {**found, **({"failed": failed} if failed else {})}


def _turns(
    runs: Mapping[str, Callable[[], Any]], options: argparse.Namespace, calls: int = 3
) -> dict[str, dict[str, Any]]:
    """Medians and quartiles of interleaved turns after a warm-up, and the peak memory of one call."""
    figures: dict[str, list[float]] = {name: [] for name in runs}
    memory = {}
    for name, run in runs.items():
        timed(run, options.device, 2)
        if options.device.type == "cuda":
            torch.cuda.synchronize(options.device)
            torch.cuda.reset_peak_memory_stats(options.device)
            before = torch.cuda.memory_allocated(options.device)
            run()
            torch.cuda.synchronize(options.device)
            memory[name] = {"peak MiB": (torch.cuda.max_memory_allocated(options.device) - before) / 2**20}
    for _ in range(options.turns):
        for name, run in runs.items():
            figures[name].append(timed(run, options.device, calls))
    found = {}
    for name, each in figures.items():
        low, middle, high = statistics.quantiles(each, n=4, method="inclusive") if len(each) > 1 else each * 3
        found[name] = {"ms": middle, "quartiles": [low, high], **memory.get(name, {})}
    return found


def _can_use_kernel(options: argparse.Namespace) -> bool:
    return options.device.type == "cuda"


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


_WAYS = {OURS: None, _PLAIN: False}
