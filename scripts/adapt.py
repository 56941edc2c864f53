"""Measure the accuracy that antialiasing trained weights costs, and how much `recalibrate` and fine-tuning recover.

    python scripts/adapt.py mobilenet_v2:baseline:cifar10 --data cifar10.zip --out results/adapting \
        "fine-tuned=mobilenet_v2:lpf4:runs/finetuned/weights.safetensors" --page docs/adapting.md

The first model is measured unchanged, antialiased, and recalibrated; further models unchanged. See scripts/README.md.
"""

from __future__ import annotations

import argparse
import copy
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from running import run_script
from torch import nn
from torch.utils.data import DataLoader, Subset

from antialiased_zoo import antialias, recalibrate
from antialiased_zoo.cli.adapt_run import check_plain
from antialiased_zoo.cli.numbers import filter_size, natural, positive
from antialiased_zoo.cli.output import say
from antialiased_zoo.evaluation import (
    GRAMMAR,
    Accuracy,
    Consistency,
    ImageFiles,
    NamedModel,
    Options,
    Probe,
    class_index,
    evaluate,
    load_named,
    markdown_table,
    open_images,
    protocol_for,
    result_notes,
    torch_seed,
)
from antialiased_zoo.training import made_folder, write_json
from antialiased_zoo.training.runs import versions
from antialiased_zoo.weights.preprocessing import Preprocessing

TABLE = re.compile(r"(?<=<!-- adapting -->\n).*?(?=<!-- /adapting -->)", re.DOTALL)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help=f"trained, not antialiased: {GRAMMAR}")
    parser.add_argument("others", nargs="*", help="further models to measure, such as one fine-tuned from it")
    parser.add_argument("--data", type=Path, required=True, help="folder or zip with train/ and val/")
    parser.add_argument("--filter-size", type=filter_size, default=4)
    parser.add_argument("--images", type=positive, default=10_000, help="training images to recalibrate with")
    parser.add_argument("--limit", type=positive, help="measure this many validation images, evenly spaced")
    parser.add_argument("--out", type=Path, help="folder for results.json and table.md")
    parser.add_argument("--page", type=Path, help="replace the text between the two adapting comments of this file")
    parser.add_argument("--seed", type=natural, default=0, help="seed of the training images and the shifts")
    parser.add_argument("--batch-size", type=positive, default=64)
    parser.add_argument("--workers", type=natural, default=0, help="worker processes for decoding")
    parser.add_argument("--threads", type=positive, help="CPU threads")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_intermixed_args(argv)  # options may come between the models


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.page and not TABLE.search(args.page.read_text(encoding="utf-8")):
        raise ValueError(f"{args.page} has no <!-- adapting --> and <!-- /adapting --> around a place for the table")
    if args.out:
        made_folder(args.out)  # before the work
    train, val = (open_images(args.data / part) for part in ("train", "val"))
    val.thin_out(args.limit)
    named, *others = (load_named(spec, len(val.classes), args.progress) for spec in (args.model, *args.others))
    check_plain(named.model, args.model)
    facts = named.preprocessing or Preprocessing()
    stages, seconds = adapt(named.model, loader(train, facts, args), args)
    hide = None if args.progress else True  # a bar on a terminal
    models = {label: model.to(args.device) for label, model in stages.items()}
    models |= {other.label: other.model.to(args.device) for other in others}
    record = {
        "command": shlex.join(["python", "scripts/adapt.py", *argv]),
        "versions": versions(),
        "data": {"train_images": min(args.images, len(train)), "val_images": len(val), "val": val.digest(hide)},
        "recalibrate_seconds": round(seconds, 1),
        "models": measure(models, named, others, val, args),
    }
    report(record, args)


def adapt(model: nn.Module, batches: DataLoader[Any], args: argparse.Namespace) -> tuple[dict[str, nn.Module], float]:
    """Returns the model unchanged, antialiased, and recalibrated, and the seconds that recalibrating took."""
    blurred = antialias(model.to(args.device), args.filter_size)
    recalibrated = copy.deepcopy(blurred)
    started = time.monotonic()
    recalibrate(recalibrated, batches, progress=args.progress)
    stages = {"as trained, no blur": model, "right after antialias()": blurred, "after recalibrate()": recalibrated}
    return stages, time.monotonic() - started


def loader(train: ImageFiles, facts: Preprocessing, args: argparse.Namespace) -> DataLoader[Any]:
    """Random training images with the preprocessing of validation, in batches of all classes."""
    train.transform = facts.build()
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(torch_seed(args.seed)))[: args.images]
    own = torch.Generator()  # since the loader would draw a number from torch's
    return DataLoader(Subset(train, chosen.tolist()), args.batch_size, num_workers=args.workers, generator=own)


def measure(
    models: Mapping[str, nn.Module],
    named: NamedModel,
    others: Sequence[NamedModel],
    val: ImageFiles,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Returns each model's figures, and the paired differences from the first model."""

    def probes() -> dict[str, Probe]:
        kinds = {kind: Consistency(kind, seed=args.seed) for kind in ("crop", "circular")}
        return {"accuracy": Accuracy(), **kinds}

    stated = dict.fromkeys(models, named.classes) | {other.label: other.classes for other in others}
    indices = {label: class_index(val.classes, classes) for label, classes in stated.items() if classes}
    protocol = protocol_for(named.preprocessing or Preprocessing())
    options = Options(torch.device(args.device), args.batch_size, args.workers, progress=args.progress)
    found = evaluate(models, val, probes, protocol, options, indices, args.seed)
    first, *rest = models
    results: dict[str, Any] = {label: {"figures": found.figures(label)} for label in models}
    for label in rest:
        changes = found.differences(label, first)
        results[label]["differences"] = {name: {"to": first, **f.as_dict()} for name, f in changes.items()}
    return results


def table(record: Mapping[str, Any]) -> str:
    """Returns a record's figures as Markdown."""
    models, data = record["models"], record["data"]
    shown = ("top1", "crop_consistency", "circular_consistency")
    figures = {label: {name: of["figures"][name] for name in shown} for label, of in models.items()}
    notes = [f"{data['val_images']} validation images; recalibrated with {data['train_images']} training images"]
    for label, of in models.items():
        changes = {name: change for name, change in of.get("differences", {}).items() if name in shown}
        notes += result_notes(label, {"differences": changes})
    return markdown_table(figures, notes)


def report(record: Mapping[str, Any], args: argparse.Namespace) -> None:
    text = table(record)
    if args.out:
        write_json(args.out / "results.json", record)
        (args.out / "table.md").write_text(text, encoding="utf-8")
    if args.page:
        page = args.page.read_text(encoding="utf-8")
        args.page.write_text(TABLE.sub(lambda _: f"\n{text}\n", page), encoding="utf-8")
    say(text)  # last, since the output may be closed


if __name__ == "__main__":
    run_script(main, sys.argv[1:])
