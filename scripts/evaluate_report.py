"""What scripts/evaluate.py prints and writes: the table, results.json and the pictures."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from antialiased_zoo.cli import output
from antialiased_zoo.evaluation import (
    PAPER_PAIRS,
    ClassMap,
    Evaluation,
    LabelledImages,
    Options,
    Subject,
    bare_seconds,
    markdown_table,
    plots,
    result_notes,
)
from antialiased_zoo.training import launcher, versions, write_json


def hide_bar(args: argparse.Namespace) -> bool | None:
    """What tqdm takes as `disable`; None shows a bar on a terminal."""
    return True if args.no_progress or not first_process() else None


def say(text: str) -> None:
    """Print to the standard error; the standard output has only the table."""
    if first_process():
        print(text, file=sys.stderr)


def first_process() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def facts_of(one: Subject, classes: ClassMap | None) -> dict[str, Any]:
    facts = {"spec": one.named.spec, "protocol": one.protocol.describe(), "preprocessing_from": one.preprocessing_from}
    facts |= {"remark": one.named.remark} if one.named.remark else {}
    return facts | ({"classes": classes.how} if classes else {})


def figures_of(found: Evaluation, label: str) -> dict[str, Any]:
    return {
        "figures": found.figures(label),
        "images": found.images,
        "views": found.views[label],
        "seconds": round(found.seconds, 2),
        "skipped": [error for _, error in found.skipped],
    }


def overhead(found: Evaluation, subjects: Sequence[Subject], options: Options) -> str:
    """Compare the time with that of the forward passes alone, which this process measures."""
    models = {one.named.label: one.named.model for one in subjects}
    protocols = {one.named.label: one.protocol for one in subjects}
    world = dist.get_world_size() if dist.is_initialized() else 1
    bare = bare_seconds(models, {label: count // world for label, count in found.views.items()}, protocols, options)
    return (
        f"{found.images} images, {max(found.views.values())} views: {found.seconds:.2f} s, bare forward passes "
        f"{bare:.2f} s, ratio {found.seconds / bare:.3f}"
    )


def report(
    results: Mapping[str, Mapping[str, Any]],
    subjects: Sequence[Subject],
    images: LabelledImages,
    args: argparse.Namespace,
    digest: bool,
) -> None:
    """Print the table, and write all results, with the data's digest if wanted, if there is an output folder."""
    figures = {label: result["figures"] for label, result in results.items() if "figures" in result}
    errors = next(iter(results.values())).get("skipped", ())
    notes = [f"{len(images)} images of {args.data}, {len(errors)} skipped", f"`{command(args)}`"]
    notes += [f"top-1 is agreement with {args.agree_with}"] if args.agree_with else []
    notes += [one.note() for one in subjects]
    notes += [note for label, result in results.items() for note in result_notes(label, result)]
    table = markdown_table(figures, notes)
    if args.out:  # first, since the output may be closed
        (args.out / "table.md").write_text(table, encoding="utf-8")
        write(results, images, args)
    output.say(table)
    for error in errors:
        say(f"skipped: {error}")
    if args.out is None:
        return
    if digest:  # it reads all data once more: what is measured is on the disk before
        write(results, images, args, {"sha256": images.digest(hide_bar(args))})
    draw(results, args.out)


def command(args: argparse.Namespace) -> str:
    return shlex.join([*(launcher() or ["python"]), "scripts/evaluate.py", *args.argv])


def write(
    results: Mapping[str, Mapping[str, Any]],
    images: LabelledImages,
    args: argparse.Namespace,
    digest: Mapping[str, str] | None = None,
) -> None:
    """Write results.json."""
    record = {
        "command": command(args),
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
        "versions": versions(),
        "data": {"path": args.data, "images": len(images), "classes": len(images.classes), **(digest or {})},
        "draw": draws(args),
        "models": results,
    }
    write_json(args.out / "results.json", record)


def draws(args: argparse.Namespace) -> dict[str, Any]:
    """How the shifts were drawn; paper mode is one of crops, circular shifts are drawn for each image."""
    if args.paper:
        return {"mode": "paper", "pairs": PAPER_PAIRS, "circular_pairs": 1, "seed": args.seed}
    return {"mode": "per image", "pairs": args.pairs or 1, "seed": args.seed}


def draw(results: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """Write every picture for which there are figures."""
    figures = {label: result.get("figures", {}) for label, result in results.items()}
    for kind in ("crop", "circular"):
        name = f"{kind}_consistency"
        rows = {label: (f["top1"], f[name]) for label, f in figures.items() if "top1" in f and name in f}
        if rows:
            points = {label: (x["value"], y["value"]) for label, (x, y) in rows.items()}
            bars = {label: ((x["low"], x["high"]), (y["low"], y["high"])) for label, (x, y) in rows.items()}
            picture = plots.accuracy_consistency(points, ylabel=f"{kind} consistency (%)", errors=bars)
            picture.savefig(out / f"accuracy-{kind}.png")
    lines = {label: result["curve"] for label, result in results.items() if "curve" in result}
    if lines:
        title = next(iter(lines.values()))["image"]
        drawn = {label: (line["offsets"], line["probability"]) for label, line in lines.items()}
        plots.shift_curves(drawn, title=title).savefig(out / "shift-curves.png")
    maps = {label: result["feature_distance"] for label, result in results.items() if "feature_distance" in result}
    if maps:
        means = {label: {name: torch.tensor(m["mean"]) for name, m in layers.items()} for label, layers in maps.items()}
        plots.distance_maps(means, title="internal feature distance").savefig(out / "feature-distance.png")
