"""Compares the speed with that of other packages: python scripts/benchmark.py [--short] [--parts layers networks ...].

With --device cuda it runs only the part "gpu", for some minutes. The same command with --out resumes where it stopped,
network by network.

Contestants take turns, so that a shared machine's load affects all of them alike; every ratio is the median of the
turns' ratios, with quartiles. All contestants run in one process unless --no-one-process is given. Packages that are
not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from benchmarks.contest import Row
from benchmarks.gpu import gpu
from benchmarks.layers import layers
from benchmarks.loading import imports, load
from benchmarks.networks import networks, training
from benchmarks.processes import each_apart, together
from benchmarks.report import machine, markdown
from running import run_script

import antialiased_zoo as az
from antialiased_zoo.cli.numbers import above_zero, positive
from antialiased_zoo.training import check_settings, made_folder, write_json

NINE = ("alexnet", "vgg16", "vgg16_bn", "resnet18", "resnet34", "resnet50", "resnet101", "densenet121", "mobilenet_v2")
SHORT = ("resnet18", "vgg16", "mobilenet_v2")

PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "layers": layers,
    "networks": networks,
    "training": training,
    "load": load,
    "imports": imports,
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--parts", nargs="+", choices=(*PARTS, "gpu"), help="default: all except gpu; on a GPU only gpu"
    )
    parser.add_argument("--networks", nargs="+", choices=az.list_models(), default=list(NINE))
    parser.add_argument("--short", action="store_true", help="three networks, few turns: some minutes")
    parser.add_argument("--batch", type=positive, help="batch size; default: 8, in the part gpu 128")
    parser.add_argument("--size", type=positive, default=224, help="size of the networks' images in the part gpu")
    parser.add_argument(
        "--minutes", type=above_zero, default=6, help="time after which the part gpu starts no new case"
    )
    parser.add_argument(
        "--cases", nargs="+", default=[], help="in the part gpu, only cases with all of these in the name"
    )
    parser.add_argument("--turns", type=positive, default=15)
    parser.add_argument("--device", type=torch.device, default="cpu")
    parser.add_argument("--compile", action="store_true", help="networks and training under torch.compile")
    parser.add_argument(
        "--one-process",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="all contestants in one process, or a process for each",
    )
    parser.add_argument(
        "--threads", type=positive, default=torch.get_num_threads(), help="torch's threads; default: %(default)s"
    )
    parser.add_argument("--out", type=Path, help="a folder for PART.json and PART.md")
    options = parser.parse_args()
    options.contestants = together if options.one_process else each_apart
    if options.short:
        options.networks, options.turns = list(SHORT), 5
    options.parts = options.parts or (["gpu"] if options.device.type == "cuda" else list(PARTS))
    options.batch = options.batch or (128 if "gpu" in options.parts else 8)
    return options


def main() -> None:
    options = parse()
    if options.out:
        made_folder(options.out)  # before the work
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    if "gpu" in options.parts:
        options.parts.remove("gpu")
        gpu(options)
    for part in options.parts:
        rows = earlier(part, options)
        for found in stages(part, {row.case for row in rows}, options):
            rows += found
            keep(part, rows, options)
        print(report(rows, options), flush=True)


def stages(part: str, done: set[str], options: argparse.Namespace) -> Iterator[list[Row]]:
    """Yield the rows of one network at a time, without networks that are done; for other parts one row at a time."""
    if part not in ("networks", "training"):
        yield from ([row] for row in PARTS[part](options))
        return
    for name in options.networks:
        if name not in done:
            yield list(PARTS[part](argparse.Namespace(**{**vars(options), "networks": [name]})))


def earlier(part: str, options: argparse.Namespace) -> list[Row]:
    """The rows that the same command wrote before it was stopped; layers and loading start from the beginning.

    Raises:
        ValueError: If they are from another command, machine or commit.
    """
    file = options.out / f"{part}.json" if options.out and part in ("networks", "training") else None
    if file is None or not file.exists():
        return []
    found = json.loads(file.read_text(encoding="utf-8"))
    saved, now = {**found["machine"], "arguments": found["arguments"]}, machine(options.device)
    check_settings(file, saved, {**now, "arguments": sys.argv[1:]})
    return [Row(**row) for row in found["rows"]]


def report(rows: list[Row], options: argparse.Namespace) -> str:
    return f"{json.dumps(machine(options.device))}\n{markdown(rows)}\n"


def keep(part: str, rows: list[Row], options: argparse.Namespace) -> None:
    """Write a part's results so far, since the rest may take long."""
    if options.out:
        found = {"machine": machine(options.device), "arguments": sys.argv[1:], "rows": [asdict(row) for row in rows]}
        write_json(options.out / f"{part}.json", found)
        (options.out / f"{part}.md").write_text(report(rows, options), encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
