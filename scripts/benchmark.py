"""Times this package beside its peers: python scripts/benchmark.py [--short] [--parts layers networks ...].

With --device cuda it runs the part "gpu" alone, for some minutes. The same command with --out goes on where it stopped,
network by network.

Contestants take turns, so that a shared machine's moods fall on all of them alike; every ratio is the median of the
turns' ratios, with their quartiles. All are in one process unless --no-one-process is given. Peers that are not
installed are left out.
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

import antialiased_zoo as az
from antialiased_zoo.training import check_settings

NINE = ("alexnet", "vgg16", "vgg16_bn", "resnet18", "resnet34", "resnet50", "resnet101", "densenet121", "mobilenet_v2")
SHORT = ("resnet18", "vgg16", "mobilenet_v2")

PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "layers": layers,
    "networks": networks,
    "training": training,
    "load": load,
    "imports": imports,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=(*PARTS, "gpu"), help="all but gpu; on a GPU gpu alone")
    parser.add_argument("--networks", nargs="+", choices=az.list_models(), default=list(NINE))
    parser.add_argument("--short", action="store_true", help="three networks, few turns: some minutes")
    parser.add_argument("--batch", type=int, help="8; in the part gpu 128")
    parser.add_argument("--size", type=int, default=224, help="of the networks' images in the part gpu")
    parser.add_argument("--minutes", type=float, default=6, help="after which the part gpu starts no case")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--device", type=torch.device, default="cpu")
    parser.add_argument("--compile", action="store_true", help="networks and training under torch.compile")
    parser.add_argument(
        "--one-process",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="all contestants in one process, or a process for each",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch; default: %(default)s")
    parser.add_argument("--out", type=Path, help="a folder for PART.json and PART.md")
    options = parser.parse_args()
    options.device = torch.device(options.device)
    options.contestants = together if options.one_process else each_apart
    torch.set_num_threads(options.threads)
    if options.short:
        options.networks, options.turns = list(SHORT), 5
    options.parts = options.parts or (["gpu"] if options.device.type == "cuda" else list(PARTS))
    options.batch = options.batch or (128 if "gpu" in options.parts else 8)
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
    """The rows of one network after the other, without those that are there already; of other parts each row."""
    if part not in ("networks", "training"):
        yield from ([row] for row in PARTS[part](options))
        return
    for name in options.networks:
        if name not in done:
            yield list(PARTS[part](argparse.Namespace(**{**vars(options), "networks": [name]})))


def earlier(part: str, options: argparse.Namespace) -> list[Row]:
    """The rows that the same command wrote before it was stopped; layers and loading start anew.

    Raises:
        ValueError: If they are of another command, machine or commit.
    """
    file = options.out / f"{part}.json" if options.out and part in ("networks", "training") else None
    if file is None or not file.exists():
        return []
    found = json.loads(file.read_text())
    saved, now = {**found["machine"], "arguments": found["arguments"]}, machine(options.device)
    check_settings(file, saved, {**now, "arguments": sys.argv[1:]})
    return [Row(**row) for row in found["rows"]]


def report(rows: list[Row], options: argparse.Namespace) -> str:
    return f"{json.dumps(machine(options.device))}\n{markdown(rows)}\n"


def keep(part: str, rows: list[Row], options: argparse.Namespace) -> None:
    """Write what one part has found so far: the rest may take long."""
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        found = {"machine": machine(options.device), "arguments": sys.argv[1:], "rows": [asdict(row) for row in rows]}
        (options.out / f"{part}.json").write_text(json.dumps(found, indent=1) + "\n")
        (options.out / f"{part}.md").write_text(report(rows, options))


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"benchmark: {error}")
