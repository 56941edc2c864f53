"""Measure many networks on the same images, one after the other, into a CSV; see scripts/README.md.

python scripts/leaderboard.py --models scripts/leaderboard_models.txt --data imagenet/val --out results/imagenet.csv
python scripts/leaderboard.py ... --page docs/leaderboard.md        # and write the page's table and picture

After an interruption the same command resumes with the network that was being measured.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import leaderboard_page
import torch
from leaderboard_page import MEASURES, SPEED, Listed, Row, read_models
from running import run_script

from antialiased_zoo import plan
from antialiased_zoo.cli.numbers import positive
from antialiased_zoo.errors import ZooError
from antialiased_zoo.evaluation import (
    DATA_GRAMMAR,
    PROTOCOL_VERSION,
    Accuracy,
    Consistency,
    Diagonal,
    LabelledImages,
    Options,
    Probe,
    Subject,
    evaluate,
    find_device,
    open_data,
    prepare,
)
from antialiased_zoo.training import tensors_digest
from antialiased_zoo.weights import replacing
from antialiased_zoo.zoo import fingerprint_of

#: Columns known before a network is measured. A row in which they are unchanged is not measured again.
FACTS = (
    *("parameters", "licence", "digest", "structure", "resize", "crop", "interpolation", "mean", "std"),
    *("preprocessing_from", "protocol", "protocol_version", "data", "data_sha256", "labels_sha256"),
)
COLUMNS = (
    *("model", "group", "spec"),
    *(f"{name}{end}" for name in (*MEASURES, SPEED) for end in ("", "_low", "_high", "_n")),
    *("timed_on", "multiply_adds", *FACTS, "skipped"),
)
# The lowest and the highest of seven are a 98% interval for the median.
_BATCHES = 7


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", type=Path, required=True, help="file with one model per line, as for scripts/evaluate.py"
    )
    parser.add_argument("--data", required=True, help=DATA_GRAMMAR)
    parser.add_argument("--labels", type=Path, help="as for scripts/evaluate.py")
    parser.add_argument("--out", type=Path, required=True, help="the CSV; its rows are kept")
    parser.add_argument("--page", type=Path, help="write the table and the picture into this page")
    parser.add_argument("--only", nargs="+", metavar="PATTERN", help="measure only these of the list: 'resnet50:*' ...")
    parser.add_argument("--limit", type=positive, help="measure on this many images, evenly spaced")
    parser.add_argument("--no-speed", action="store_true", help="do not time the networks")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda ...")
    parser.add_argument("--workers", "-j", type=int, default=min(8, (os.cpu_count() or 1) - 1))
    parser.add_argument("--batch-size", "-b", type=positive, default=64)
    parser.add_argument("--threads", type=positive, help="CPU threads")
    parser.add_argument("--no-progress", action="store_true")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    args = parse(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    everything = read_models(args.models)
    hide_bar = args.no_progress or None
    models, images = chosen(everything, args.only), open_data(args.data, args.labels, hide_bar=hide_bar)
    images.thin_out(args.limit)
    data = {"data": Path(args.data).name, "data_sha256": images.digest(hide_bar)}
    data["labels_sha256"] = images.labels_digest()
    rows = read_rows(args.out, data)
    options = Options(find_device(args.device), args.batch_size, args.workers, progress=not args.no_progress)
    failed = 0
    for listed in models:
        try:
            row = measured(listed, rows.get(listed.spec), images, data, options, not args.no_speed)
        except (ZooError, ValueError, RuntimeError, OSError, ImportError) as error:
            # One failure must not end the others.
            say(f"not measured: {' '.join(str(error).split())}")
            failed += 1
            continue
        rows[listed.spec] = row
        write_rows(args.out, everything, rows)  # if killed, only one network's figures are lost
    say(f"{len(models) - failed} of {len(models)} models are in {args.out}")
    if args.page:
        leaderboard_page.write(args.out, args.models, args.page)
    return int(failed > 0)


def chosen(models: list[Listed], patterns: Sequence[str] | None) -> list[Listed]:
    """Return the models that match a pattern, or all without patterns.

    Raises:
        ValueError: If a pattern matches none.
    """
    fits = {pattern: [one for one in models if fnmatchcase(one.spec, pattern)] for pattern in patterns or ["*"]}
    for pattern, found in fits.items():
        if not found:
            raise ValueError(f"no model of the list matches {pattern!r}; a pattern must match a line's whole model")
    return [one for one in models if any(one in found for found in fits.values())]


def say(text: str) -> None:
    print(text, file=sys.stderr)


def read_rows(path: Path, data: Mapping[str, str]) -> dict[str, Row]:
    """Read the rows of an earlier run by spec.

    Rows of an earlier version lack some columns. They are kept, and measured again with the others.

    Raises:
        ValueError: If they are from other images, or the file has other columns.
    """
    if not path.exists():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not {"spec", "data_sha256"} <= set(reader.fieldnames or ()) <= set(COLUMNS):
            raise ValueError(f"{path} is not a leaderboard: give another --out")
        rows = {row["spec"]: {name: row.get(name, "") for name in COLUMNS} for row in reader}
    if any(row["data_sha256"] != data["data_sha256"] for row in rows.values()):
        raise ValueError(f"{path} holds figures on other images: give another --out")
    return rows


def write_rows(path: Path, models: Sequence[Listed], rows: Mapping[str, Row]) -> None:
    """Write all rows atomically, those of the models file first and in its order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    order = dict.fromkeys([*(listed.spec for listed in models), *rows])
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[spec] for spec in order if spec in rows)


def measured(
    listed: Listed,
    known: Row | None,
    images: LabelledImages,
    data: Mapping[str, str],
    options: Options,
    timed: bool,
) -> Row:
    """Return a network's row: the known one if it is still valid for this network, else a new one."""
    one = prepare(listed.spec, options, len(images.classes), room=True)
    facts = facts_of(one, listed) | data
    row = {"model": one.named.label, "group": listed.group, "spec": listed.spec}
    if known and all(known[name] == str(value) for name, value in facts.items()):
        late = timed and known["timed_on"] != timed_on(options)
        return known | row | (timing(one, options) if late else {})
    say(one.note())
    classes = {one.named.label: one.match(images.classes).index}
    found = evaluate({one.named.label: one.named.model}, images, probes, one.protocol, options, classes)
    figures = dict(entries(found.figures(one.named.label)))
    size = (1, 3, one.protocol.size, one.protocol.size)
    costs = plan(one.named.model, input_size=size).totals
    row |= figures | facts | (timing(one, options) if timed else {})
    row |= {"multiply_adds": costs.before.multiply_adds if costs else "", "skipped": len(found.skipped)}
    return {name: str(row.get(name, "")) for name in COLUMNS}


def probes() -> dict[str, Probe]:
    crop, circular = Consistency("crop"), Consistency("circular")
    return {"accuracy": Accuracy(), "crop": crop, "circular": circular, "diagonal": Diagonal()}


def entries(figures: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield the columns of the figures that the leaderboard shows."""
    for name in (name for name in (*MEASURES, SPEED) if name in figures):
        figure = figures[name]
        yield name, figure["value"]
        yield from ((f"{name}_{end}", figure[end]) for end in ("low", "high", "n"))


def facts_of(one: Subject, listed: Listed) -> dict[str, Any]:
    facts, model = one.protocol.preprocessing, one.named.model
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "licence": listed.licence or one.named.license,
        "digest": tensors_digest(model.state_dict()),
        "structure": structure_of(model),
        "resize": facts.resize,
        "crop": facts.crop,
        "interpolation": facts.interpolation,
        "mean": " ".join(map(str, facts.mean)),
        "std": " ".join(map(str, facts.std)),
        "preprocessing_from": one.preprocessing_from,
        "protocol": one.protocol.name,
        "protocol_version": PROTOCOL_VERSION,
    }


def structure_of(model: torch.nn.Module) -> str:
    """A short digest of a network's modules, blurs and strides, which may change while its tensors do not."""
    return hashlib.sha256(f"{model}\n{fingerprint_of(model)}".encode()).hexdigest()[:16]


@torch.inference_mode()
def timing(one: Subject, options: Options) -> Row:
    """Time forward passes of full batches; return the columns: the median, the slowest and the fastest."""
    model, size = one.named.model.eval(), one.protocol.size
    batch = torch.randn(options.batch_size, 3, size, size, device=options.device)
    rates = []
    for _ in range(_BATCHES + 1):
        started = time.perf_counter()
        model(batch).sum().item()  # a number on the CPU waits for the device
        rates.append(float(f"{options.batch_size / (time.perf_counter() - started):.4g}"))
    del rates[0]  # warm up
    figure = {"value": statistics.median(rates), "low": min(rates), "high": max(rates), "n": _BATCHES}
    return {name: str(value) for name, value in entries({SPEED: figure})} | {"timed_on": timed_on(options)}


def timed_on(options: Options) -> str:
    """The conditions under which images per second were measured."""
    cuda = options.device.type == "cuda"
    where = torch.cuda.get_device_name(options.device) if cuda else f"{torch.get_num_threads()} CPU threads"
    return f"{where}, batches of {options.batch_size}"


if __name__ == "__main__":
    run_script(main, sys.argv[1:])
