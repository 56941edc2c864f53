"""Measure accuracy and shift-invariance of models side by side; see scripts/README.md.

python scripts/evaluate.py resnet50:baseline:torchvision resnet50:lpf4:finetuned --data imagenet/val --out results
torchrun --nproc-per-node 8 scripts/evaluate.py ...        # the same figures, sooner
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from antialiased_zoo.evaluation import plots
from antialiased_zoo.evaluation.cifar10 import Cifar10
from antialiased_zoo.evaluation.data import ImageFiles, open_images
from antialiased_zoo.evaluation.loop import Evaluation, Options, bare_seconds, evaluate
from antialiased_zoo.evaluation.modelspec import GRAMMAR, NamedModel, class_index, load_named
from antialiased_zoo.evaluation.probes import Accuracy, Consistency, Corruptions, Diagonal, Probe
from antialiased_zoo.evaluation.protocols import ShiftProtocol, cifar, imagenet, protocol_for
from antialiased_zoo.evaluation.reports import markdown_table, result_notes
from antialiased_zoo.evaluation.robustness import imagenet_c, imagenet_p
from antialiased_zoo.evaluation.samples import feature_maps, sample_canvases, stability_curves
from antialiased_zoo.training.runs import versions
from antialiased_zoo.weights.preprocessing import Preprocessing

METRICS = ("accuracy", "crop", "circular", "diagonal", "corruption", "features")
AMP = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help=GRAMMAR)
    parser.add_argument(
        "--data",
        required=True,
        help="folder of class folders, a zip of one, ZIP/FOLDER, or cifar10:FOLDER for CIFAR-10's own files",
    )
    parser.add_argument("--out", type=Path, help="folder for results.json, table.md and pictures")
    parser.add_argument("--metrics", nargs="+", choices=METRICS, default=METRICS[:3])
    parser.add_argument("--limit", type=int, help="measure this many images, evenly spaced")
    protocol = parser.add_argument_group("protocol")
    protocol.add_argument("--protocol", choices=("auto", "imagenet", "cifar"), default="auto")
    protocol.add_argument("--resize", type=int, help="shorter side in pixels (by default what the weights name)")
    protocol.add_argument("--crop", type=int, help="side of what the models see, in pixels")
    protocol.add_argument("--paper", action="store_true", help="crop pairs as the published script draws them")
    protocol.add_argument("--pairs", type=int, default=1, help="pairs of shifts per image")
    protocol.add_argument("--seed", type=int, default=0)
    features = parser.add_argument_group("features, curves")
    features.add_argument("--layers", nargs="+", help="by default up to four, spread over the depth")
    features.add_argument("--grid", type=int, default=8, help="shifts of 0 .. GRID-1 pixels each way")
    features.add_argument("--feature-images", type=int, default=8)
    features.add_argument("--curve-image", type=int, default=0, help="index of the image whose curves are drawn")
    parser.add_argument("--imagenet-c", type=Path, metavar="DIR")
    parser.add_argument("--imagenet-p", type=Path, metavar="DIR", help="unpacked to frames")
    running = parser.add_argument_group("running; none of it changes a figure but by rounding")
    running.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    running.add_argument("--amp", choices=AMP)
    running.add_argument("--channels-last", action="store_true")
    running.add_argument("--workers", type=int, default=min(8, (os.cpu_count() or 1) - 1))
    running.add_argument("--batch-size", type=int, default=64)
    running.add_argument("--threads", type=int, help="CPU threads")
    running.add_argument("--no-progress", action="store_true")
    running.add_argument("--no-digest", action="store_true", help="do not read all data once for its digest")
    running.add_argument("--overhead", action="store_true", help="compare the time with that of bare forward passes")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    device = start(args)
    images = subset(open_data(args.data), args.limit)
    needs_classes = len(set(args.metrics) & {"accuracy", "diagonal", "corruption"}) > 0
    classes = images.classes if needs_classes else None
    models = [build(spec, classes and len(classes), args) for spec in args.models]
    if len({named.label for named in models}) < len(models):
        raise ValueError("two models have the same label; name them apart with LABEL=SPEC")
    for named in models:
        named.model.to(device, memory_format=torch.channels_last if args.channels_last else None)
    options = Options(
        device, args.batch_size, args.workers, AMP.get(args.amp), args.channels_last, not args.no_progress
    )
    results: dict[str, Any] = {}
    for protocol, group in by_protocol(models, args).items():
        results |= measure(group, images, protocol, args, options)
    if not dist.is_initialized() or dist.get_rank() == 0:
        report(results, models, images, args)


def build(spec: str, num_classes: int | None, args: argparse.Namespace) -> NamedModel:
    # Networks without weights must be the same ones in every process.
    torch.manual_seed(args.seed)
    return load_named(spec, num_classes, not args.no_progress)


def start(args: argparse.Namespace) -> torch.device:
    if args.threads:
        torch.set_num_threads(args.threads)
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return torch.device(args.device)
    if args.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if args.device == "cuda" else "gloo")
    return torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if args.device == "cuda" else args.device)


def open_data(data: str) -> ImageFiles | Cifar10:
    kind, colon, folder = data.partition(":")
    return Cifar10(folder) if colon and kind == "cifar10" else open_images(data)


def subset(images: ImageFiles | Cifar10, limit: int | None) -> ImageFiles | Cifar10:
    """Keeps evenly spaced images, so that every class stays in."""
    if limit and limit < len(images):
        chosen = [index * len(images) // limit for index in range(limit)]
        images.samples = [images.samples[index] for index in chosen]
        images.targets = [images.targets[index] for index in chosen]
    return images


def by_protocol(models: Sequence[NamedModel], args: argparse.Namespace) -> dict[ShiftProtocol, list[NamedModel]]:
    make = {"auto": protocol_for, "imagenet": imagenet, "cifar": cifar}[args.protocol]
    groups: dict[ShiftProtocol, list[NamedModel]] = {}
    for named in models:
        facts = named.preprocessing or (Preprocessing(32, 32) if args.protocol == "cifar" else Preprocessing())
        given = {"resize": args.resize, "crop": args.crop}
        changes = {name: value for name, value in given.items() if value}
        groups.setdefault(make(dataclasses.replace(facts, **changes)), []).append(named)
    return groups


def probes(args: argparse.Namespace, images: int, protocol: ShiftProtocol) -> dict[str, Probe]:
    crop = functools.partial(Consistency, "crop", args.pairs, args.seed)
    if args.paper:
        crop = functools.partial(Consistency.paper, images, protocol.crop_offsets, args.seed)
    makers: dict[str, Callable[[], Probe]] = {
        "accuracy": Accuracy,
        "crop": crop,
        "circular": functools.partial(Consistency, "circular", args.pairs, args.seed),
        "diagonal": Diagonal,
        "corruption": Corruptions,
    }
    return {name: makers[name]() for name in args.metrics if name in makers}


def measure(
    group: Sequence[NamedModel],
    images: ImageFiles | Cifar10,
    protocol: ShiftProtocol,
    args: argparse.Namespace,
    options: Options,
) -> dict[str, dict[str, Any]]:
    """Measures the models of one protocol; returns what the JSON says of each."""
    models = {named.label: named.model for named in group}
    named_classes = {named.label: class_index(images.classes, named.classes) for named in group if named.classes}
    make = functools.partial(probes, args, len(images), protocol)
    results = {named.label: {"spec": named.spec, "protocol": protocol.describe()} for named in group}
    if make():
        found = evaluate(models, images, make, protocol, options, named_classes, args.seed)
        for label, result in results.items():
            result |= facts_of(found, label)
            if label != group[0].label:
                changes = found.differences(label, group[0].label)
                result["differences"] = {name: {"to": group[0].label, **f.as_dict()} for name, f in changes.items()}
        if args.overhead:
            print_overhead(found, models, protocol, options)
    extras = {"imagenet_c": (args.imagenet_c, imagenet_c), "imagenet_p": (args.imagenet_p, imagenet_p)}
    for name, (root, run) in extras.items():
        if root:
            for label, figures in run(models, root, protocol.preprocessing, options).items():
                results[label][name] = figures
    if "features" in args.metrics:
        count = min(args.feature_images, len(images))
        spread = [index * len(images) // count for index in range(count)]
        canvases = sample_canvases(images, spread, protocol, options.device)
        for label, maps in feature_maps(models, canvases, protocol, args.grid, args.layers).items():
            results[label]["feature_distance"] = maps
    if "diagonal" in args.metrics:
        canvas = sample_canvases(images, [args.curve_image], protocol, options.device)
        target = images.targets[args.curve_image]
        for label, curve in stability_curves(models, canvas, target, protocol).items():
            results[label]["curve"] = {"image": images.samples[args.curve_image], **curve}
    return results


def facts_of(found: Evaluation, label: str) -> dict[str, Any]:
    return {
        "figures": found.figures(label),
        "images": found.images,
        "views": found.views,
        "seconds": round(found.seconds, 2),
        "skipped": [error for _, error in found.skipped],
    }


def print_overhead(
    found: Evaluation, models: Mapping[str, torch.nn.Module], protocol: ShiftProtocol, options: Options
) -> None:
    if dist.is_initialized() and dist.get_rank():
        return
    world = dist.get_world_size() if dist.is_initialized() else 1
    bare = bare_seconds(models, found.views // world, protocol, options)
    print(
        f"{found.images} images, {found.views} views: {found.seconds:.2f} s, bare forward passes {bare:.2f} s, "
        f"ratio {found.seconds / bare:.3f}"
    )


def report(
    results: Mapping[str, Mapping[str, Any]],
    models: Sequence[NamedModel],
    images: ImageFiles | Cifar10,
    args: argparse.Namespace,
) -> None:
    """Prints the table, and writes everything where there is a place for it."""
    results = {named.label: results[named.label] for named in models}
    command = shlex.join(["python", "scripts/evaluate.py", *sys.argv[1:]])
    figures = {label: result["figures"] for label, result in results.items() if "figures" in result}
    skipped = max((len(result.get("skipped", ())) for result in results.values()), default=0)
    facts = [result["protocol"] for result in results.values()]
    kinds = sorted({f"{protocol['name']} at {protocol['crop']} pixels" for protocol in facts})
    notes = [f"{len(images)} images of {args.data}, {skipped} skipped; protocol {', '.join(kinds)}", f"`{command}`"]
    notes += [note for label, result in results.items() for note in result_notes(label, result)]
    table = markdown_table(figures, notes)
    print(table)
    for error in next(iter(results.values())).get("skipped", ()):
        print(f"skipped: {error}", file=sys.stderr)
    if args.out is None:
        return
    args.out.mkdir(parents=True, exist_ok=True)
    record = {
        "command": command,
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
        "versions": versions(),
        "data": {"path": args.data, "images": len(images), "classes": len(images.classes)},
        "draw": {"mode": "paper" if args.paper else "per image", "pairs": args.pairs, "seed": args.seed},
        "models": results,
    }
    if not args.no_digest:
        record["data"]["sha256"] = images.digest(args.no_progress or None)
    (args.out / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    (args.out / "table.md").write_text(table)
    draw(results, args.out)


def draw(results: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """Writes every picture for which there are figures."""
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


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    try:
        main(sys.argv[1:])
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"evaluate: {error}")
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
