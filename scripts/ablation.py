"""Measures what each fast path gains: a network with only the plain formula, and with each path, in one process.

    python scripts/ablation.py --out runs/ablation                        # the allocator at its defaults
    python scripts/ablation.py --out runs/ablation --keep-freed-memory

The paths are the rows of `layers/dispatch.py`'s tables except the last, and `for_inference`'s packed convolutions.
The contestants take turns in random order; a ratio is the median over the turns. The script writes after every case,
as JSON and as a Markdown table, and resumes where it stopped, on the same commit only: results/ablation is of another.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from benchmark import NINE
from benchmarks.networks import network_forward, training_step
from benchmarks.report import commit
from running import run_script
from torch import nn
from tqdm import tqdm

import antialiased_zoo as az
from antialiased_zoo.cli.numbers import positive
from antialiased_zoo.inference.packed_conv import PackedConv2d
from antialiased_zoo.layers import dispatch
from antialiased_zoo.training import check_settings, made_folder, write_json

LAYOUTS = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}
PATHS = ("dense pool",)  # the other rows are for float64 or filter size 1, which no network here has
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@contextlib.contextmanager
def only(paths: Sequence[str]) -> Iterator[None]:
    """A context in which each table has only these rows and its last one."""
    with contextlib.ExitStack() as stack:
        for name in ("BLUR", "MAX_BLUR"):
            *rows, last = getattr(dispatch, name)
            kept = [row for row in rows if row.name not in PATHS or row.name in paths]
            stack.enter_context(mock.patch.object(dispatch, name, [*kept, last]))
        yield


def contestants(model: nn.Module, x: torch.Tensor, training: bool) -> dict[str, Callable[[], Any]]:
    """The contestants' steps; all have the same network."""
    step = (training_step if training else network_forward)(model.train(training), x)
    runs = {"formula": _with((), step), **{path: _with((path,), step) for path in PATHS}}
    if not training:
        unpacked = az.for_inference(model)
        for module in unpacked.modules():
            if type(module) is PackedConv2d:
                module.__class__ = nn.Conv2d
        runs["for_inference without packing"] = network_forward(unpacked, x)
        runs["for_inference"] = network_forward(az.for_inference(model), x)
    return runs


def _with(paths: Sequence[str], step: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> None:
        with only(paths):
            step()

    return run


def measure(case: dict[str, Any], turns: int, clock: Callable[[], float]) -> dict[str, Any]:
    """The milliseconds of each contestant, and the formula's time divided by each."""
    layout = LAYOUTS[case["layout"]]
    model = az.create_model(case["network"], memory_format=layout)
    x = torch.randn(case["batch"], 3, 224, 224).contiguous(memory_format=layout)
    runs = contestants(model, x, case["mode"] == "training")
    figures: dict[str, list[float]] = {name: [] for name in runs}
    order = random.Random(0)
    for turn in range(turns + 1):  # the first warms up
        for name in order.sample(list(runs), len(runs)):
            start = clock()
            runs[name]()
            if turn:
                figures[name].append((clock() - start) * 1e3)
    speedups = {
        name: statistics.median(f / v for f, v in zip(figures["formula"], values, strict=True))
        for name, values in figures.items()
    }
    return {**case, "ms": {k: statistics.median(v) for k, v in figures.items()}, "speedup": speedups}


def earlier(file: Path, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a run that was stopped.

    Raises:
        ValueError: If they are of other settings or another commit.
    """
    if not file.exists():
        return []
    found = json.loads(file.read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = found.pop("rows")
    check_settings(file, found, facts)
    return rows


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table for each mode and batch: the formula's time over each contestant's."""
    text: list[str] = []
    for mode, batch in dict.fromkeys((row["mode"], row["batch"]) for row in rows):
        mine = [row for row in rows if (row["mode"], row["batch"]) == (mode, batch)]
        names = [name for name in mine[0]["speedup"] if name != "formula"]
        text.append(f"\n### {mode.capitalize()}, batch {batch}\n")
        text.append(f"| network | layout | formula, ms | {' | '.join(names)} |\n" + "| --- " * (3 + len(names)) + "|")
        for row in mine:
            ratios = " | ".join(f"{row['speedup'][name]:.2f}" for name in names)
            text.append(f"| {row['network']} | {row['layout']} | {row['ms']['formula']:.0f} | {ratios} |")
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for default.json or keep_freed_memory.json")
    parser.add_argument("--keep-freed-memory", action="store_true", help="call az.keep_freed_memory() first")
    parser.add_argument("--networks", nargs="+", default=NINE)
    parser.add_argument("--batches", nargs="+", type=positive, default=(1, 8, 32))
    parser.add_argument("--modes", nargs="+", choices=("inference", "training"), default=("inference", "training"))
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=tuple(LAYOUTS))
    parser.add_argument("--turns", type=positive, default=5)
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: CPU time, for a shared machine")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.keep_freed_memory:
        az.keep_freed_memory()
    setting = "keep_freed_memory" if options.keep_freed_memory else "default"
    file = options.out / f"{setting}.json"
    made_folder(options.out)
    facts = {"allocator": setting, "commit": commit(), "torch": torch.__version__}
    facts |= {"threads": options.threads, "clock": options.clock, "turns": options.turns}
    rows = earlier(file, facts)
    done = [{key: row[key] for key in ("network", "batch", "mode", "layout")} for row in rows]
    cases = [
        {"network": network, "batch": batch, "mode": mode, "layout": layout}
        for mode in options.modes
        for batch in options.batches
        for network in options.networks
        for layout in options.layouts
    ]
    for case in tqdm([case for case in cases if case not in done], disable=None):
        rows.append(measure(case, options.turns, CLOCKS[options.clock]))
        write_json(file, {**facts, "rows": rows})
        file.with_suffix(".md").write_text(tables(rows), encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
