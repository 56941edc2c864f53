"""Check every way out of Python for every network, beside its peers: the record, and the table of docs/deploy.md.

    python scripts/deploy_checks.py                        # all networks
    python scripts/deploy_checks.py resnet18 alexnet --libraries antialiased-zoo antialiased-cnns torchvision
    python scripts/deploy_checks.py --checks "ONNX dynamic" trace --limit 300
    python scripts/deploy_checks.py --page                 # only write the table

It needs onnx, onnxscript, onnxruntime and, for the peers, antialiased-cnns. Each row is written when it is known, and
what the record holds is not measured again unless with --again; so it can be interrupted at any time. Each network
has a process of its own for each library; a check that takes longer than --limit is stopped and recorded as that.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "results" / "deploy" / "checks.json"
PAGE = ROOT / "docs" / "deploy.md"
LIBRARIES = ("antialiased-zoo", "antialiased-cnns", "torchvision")
TOLERANCE = 1e-4
Rows = dict[str, dict[str, dict[str, dict[str, Any]]]]  # network -> check -> library -> row


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    args = _parse(arguments)
    if args.child:
        _measure(args.child, args.names[0], args.checks)
        return
    rows: Rows = json.loads(args.record.read_text()) if args.record.exists() else {}
    if not args.page:
        for name in args.names or _all_names():
            for library in args.libraries:
                wanted = [c for c in args.checks if args.again or library not in rows.get(name, {}).get(c, {})]
                _run(rows, args.record, library, name, wanted, args.limit)
    write_page(rows)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    from deploy_ways import CHECKS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="networks; default: all")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES[:1])
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--limit", type=float, default=1200, help="seconds for a check; default: %(default)s")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--again", action="store_true", help="measure what the record already holds")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    parser.add_argument("--child", choices=LIBRARIES, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _all_names() -> list[str]:
    import antialiased_zoo as az

    return az.list_models()


def _measure(library: str, name: str, checks: list[str]) -> None:
    """Run the checks in this process, and print a line of JSON for each."""
    import torch
    from deploy_ways import CHECKS, build

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    # Exporters print; the results have the standard output to themselves.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    model = build(library, name)
    for check in checks:
        try:
            row = CHECKS[check](copy.deepcopy(model))  # a check may leave traces in it
            row["right"] = row["difference"] <= TOLERANCE
        except Exception as error:
            row = {"right": False, "note": _reason(error)}
        print(json.dumps(row), file=out, flush=True)


def _reason(error: BaseException) -> str:
    """The first line of what went wrong first."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:200]


def _run(rows: Rows, record: Path, library: str, name: str, checks: list[str], limit: float) -> None:
    """Have the checks done in other processes: a new one after each that had to be stopped."""
    while checks:
        with tempfile.TemporaryDirectory() as cache:
            for row in _rows_of_process(library, name, checks, limit, cache):
                check, *checks = checks
                rows.setdefault(name, {}).setdefault(check, {})[library] = row
                _write(record, rows)
                print(f"{name:20} {library:17} {check:16} {json.dumps(row)}", flush=True)


def _rows_of_process(library: str, name: str, checks: list[str], limit: float, cache: str) -> Any:
    command = [sys.executable, __file__, name, "--child", library, "--checks", *checks]
    # Compiled code of an earlier run would be found again, which hides what compiling costs.
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache, "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        for _ in checks:
            try:
                line = lines.get(timeout=limit)
            except queue.Empty:
                process.kill()
                yield {"right": False, "note": f"stopped after {limit:.0f} s"}
                return
            if not line:
                yield {"right": False, "note": f"the process ended with {process.wait()}"}
                return
            yield json.loads(line)


def _read(stream: Any, lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _write(record: Path, rows: Rows) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    new = record.with_suffix(".new")
    new.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    new.replace(record)


def write_page(rows: Rows) -> None:
    """Put the tables of the record into the page."""
    from deploy_tables import put_table

    PAGE.write_text(put_table(PAGE.read_text(), rows))


if __name__ == "__main__":
    main()
