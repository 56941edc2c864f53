"""Measure ONNX Runtime's time for a network of each library, one image of 224x224: the record, and the page's table.

    python scripts/deploy_latency.py resnet18 mobilenet_v2 --turns 31

The libraries' networks are called in turn in one process, so that other load on the machine affects all of them alike.
Each network is written to results/deploy/latency.json as soon as it is measured, and is measured again with the same
versions and turns only with --again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from deploy_checks import LATENCY, LIBRARIES, PUBLISHED, read, states
from deploy_ways import build
from running import network_name, run_script

from antialiased_zoo.cli.numbers import positive
from antialiased_zoo.inference import export_model, load_exported
from antialiased_zoo.training import write_json


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", type=network_name, default=list(PUBLISHED), help="networks; default: all")
    parser.add_argument("--turns", type=positive, default=31, help="calls of each; default: %(default)s")
    parser.add_argument("--record", type=Path, default=LATENCY)
    parser.add_argument("--again", action="store_true", help="also measure what the record already holds")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = read(args.record)
    facts = {"turns": args.turns} | {name: version(name) for name in ("torch", "onnxruntime")}
    for name in args.names:
        if args.again or not states(rows.get(name), facts):
            rows[name] = measure(name, args.turns) | facts
            print(name, json.dumps(rows[name]), flush=True)
            write_json(args.record, rows, sort_keys=True)


def measure(name: str, turns: int) -> dict[str, Any]:
    """Nodes, kinds of nodes and CPU milliseconds of each library's network."""
    import onnx

    images = torch.randn(1, 3, 224, 224)
    rows: dict[str, Any] = {}
    sessions = {}
    with tempfile.TemporaryDirectory() as folder:
        for library in LIBRARIES:
            path = export_model(build(library, name), f"{folder}/{library}.onnx")
            nodes = Counter(node.op_type for node in onnx.load(path).graph.node)
            rows[library] = {"nodes": nodes.total(), "operators": dict(sorted(nodes.items()))}
            sessions[library] = load_exported(path, "onnx")
    times: dict[str, list[float]] = {library: [] for library in LIBRARIES}
    for turn in range(turns + 1):
        for library, session in sessions.items():
            start = time.process_time()
            session(images)
            if turn:  # the first one allocates
                times[library].append(1e3 * (time.process_time() - start))
    for library, each in times.items():
        rows[library]["milliseconds"] = round(statistics.median(each), 1)
    ratios = [ours / theirs for ours, theirs in zip(times[LIBRARIES[0]], times[LIBRARIES[1]], strict=True)]
    return rows | {"ratio": round(statistics.median(ratios), 3)}


if __name__ == "__main__":
    run_script(main)
