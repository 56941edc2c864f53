"""Check every export of every network, compared with its peers: the record, and the table of docs/deploy.md.

    python scripts/deploy_checks.py                        # all networks
    python scripts/deploy_checks.py resnet18 alexnet --libraries antialiased-zoo antialiased-cnns torchvision
    python scripts/deploy_checks.py --checks "ONNX dynamic" trace --limit 300
    python scripts/deploy_checks.py --page                 # only write the table

It needs `pip install antialiased-zoo[export]`, torchao for the quantised networks and antialiased-cnns for the peer.
Each row is written as soon as it is measured, and rows that the record holds for this torch are measured again only
with --again, so the script can be interrupted at any time. Each network runs in its own process, in which the libraries
take turns, so that their times are comparable: if one is missing, all are measured again. A check that takes longer
than --limit is stopped and recorded as stopped.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import itertools
import json
import logging
import math
import os
import queue
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy_tables import LIBRARIES, put_tables
from running import network_name, run_script

from antialiased_zoo.cli.numbers import above_zero, positive
from antialiased_zoo.training import write_json

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "results" / "deploy" / "checks.json"
LATENCY = RECORD.with_name("latency.json")
INT8 = RECORD.with_name("int8.json")
PAGE = ROOT / "docs" / "deploy.md"
# Eight bits are less precise, and random weights add up the errors: the table shows torchvision's beside PT2E's.
TOLERANCE = {"PT2E int8": 0.6, "torchao int8": 0.1}
#: The networks that all libraries have.
PUBLISHED = (
    *("alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"),
    *("wide_resnet50_2", "wide_resnet101_2", "densenet121", "densenet161", "densenet169", "densenet201"),
    "mobilenet_v2",
)
Rows = dict[str, dict[str, dict[str, dict[str, Any]]]]  # network -> check -> library -> row


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    args = _parse(arguments)
    if args.child:
        _measure(args.names[0], [tuple(job.split("=")) for job in args.child], args.turns)
        return
    rows: Rows = read(args.record)
    if not args.page:
        for name in args.names or _all_names():
            jobs: list[tuple[str, str]] = []
            libraries = _libraries(args, name)
            for check in args.checks:
                found = rows.get(name, {}).get(check, {})
                if args.again or not all(states(found.get(library), _facts()) for library in libraries):
                    jobs += [(check, library) for library in libraries]
            _run(rows, args, name, jobs)
    write_page(rows)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    from deploy_ways import CHECKS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", type=network_name, help="networks; default: all")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES[:1])
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--limit", type=above_zero, default=1200, help="seconds for a check; default: %(default)s")
    parser.add_argument("--turns", type=positive, default=1, help="the fastest counts; default: %(default)s")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--again", action="store_true", help="also measure what the record already holds")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _all_names() -> list[str]:
    return [*PUBLISHED, "efficientnet_lite0"]


def _libraries(args: argparse.Namespace, name: str) -> list[str]:
    return args.libraries if name in PUBLISHED else [library for library in args.libraries if library == LIBRARIES[0]]


def _measure(name: str, jobs: list[tuple[str, ...]], turns: int) -> None:
    """Run the checks in this process, and print a line of JSON for each."""
    import torch
    from deploy_ways import build, warm_up

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    # Exporters print to the standard output, which is reserved for the results.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    models = {library: build(library, name) for library in dict.fromkeys(library for _, library in jobs)}
    for check, group in itertools.groupby(jobs, key=lambda job: job[0]):
        warm_up(check)  # otherwise the first library's time would include imports
        rows: dict[str, dict[str, Any]] = {library: {} for _, library in group}
        for _, library in itertools.product(range(turns), rows):
            row = _attempt(check, copy.deepcopy(models[library]))  # a check may change it
            if row.get("seconds", 0) <= rows[library].get("seconds", math.inf):
                rows[library] = row
        for row in rows.values():
            print(json.dumps(row), file=out, flush=True)


def _attempt(check: str, model: Any) -> dict[str, Any]:
    from deploy_ways import CHECKS

    try:
        row = CHECKS[check](model)
        return row | {"right": row["difference"] <= TOLERANCE.get(check, 1e-4)}
    except Exception as error:
        return {"right": False, "note": _reason(error)}


def _reason(error: BaseException) -> str:
    """The first line of the root cause."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:200]


def _run(rows: Rows, args: argparse.Namespace, name: str, jobs: list[tuple[str, str]]) -> None:
    """Run the checks in child processes: a new one after each that had to be stopped."""
    begun: dict[str, dict[str, dict[str, Any]]] = {}
    while jobs:
        for row in _rows_of_process(name, jobs, args):
            (check, library), *jobs = jobs
            begun.setdefault(check, {})[library] = row | _facts()
            rows.setdefault(name, {})[check] = begun[check]  # without rows from another run
            write_json(args.record, rows, sort_keys=True)
            print(f"{name:20} {library:17} {check:16} {json.dumps(row)}", flush=True)


def _rows_of_process(name: str, jobs: list[tuple[str, str]], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    command = [sys.executable, __file__, name, "--turns", str(args.turns), "--child", *map("=".join, jobs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        for _ in jobs:
            try:
                line = lines.get(timeout=args.limit)
            except queue.Empty:
                process.kill()
                yield {"right": False, "note": f"stopped after {args.limit:.0f} s"}
                return
            if not line:
                yield {"right": False, "note": f"the process ended with {process.wait()}"}
                return
            yield json.loads(line)


def _read(stream: Any, lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _facts() -> dict[str, str]:
    """The settings and versions for which a row is valid."""
    return {"torch": importlib.metadata.version("torch")}


def states(row: dict[str, Any] | None, facts: dict[str, Any]) -> bool:
    """True if the row exists and is valid for these settings and versions."""
    return row is not None and all(row.get(name) == value for name, value in facts.items())


def write_page(rows: Rows) -> None:
    """Write the records' tables into the page."""
    PAGE.write_text(put_tables(PAGE.read_text(encoding="utf-8"), rows, read(LATENCY), read(INT8)), encoding="utf-8")


def read(record: Path) -> Any:
    """A record; empty if there is none yet."""
    return json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}


if __name__ == "__main__":
    run_script(main)
