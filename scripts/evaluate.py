"""Measure accuracy and shift-invariance of models side by side; see scripts/README.md.

python scripts/evaluate.py resnet50:baseline:torchvision resnet50:lpf4:finetuned --data imagenet/val --out results
torchrun --nproc-per-node 8 scripts/evaluate.py ...        # the same figures, faster
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tqdm.auto import tqdm

from antialiased_zoo.cli.numbers import above_zero, natural, part, positive
from antialiased_zoo.errors import ZooError
from antialiased_zoo.evaluation import (
    DATA_GRAMMAR,
    GRAMMAR,
    PROBES,
    PROTOCOLS,
    ClassMap,
    Evaluation,
    LabelledImages,
    Options,
    PhotoBatches,
    Probe,
    Settings,
    ShiftProtocol,
    Subject,
    bare_seconds,
    evaluate,
    feature_maps,
    find_device,
    find_probe,
    imagenet_c,
    imagenet_p,
    logits_of,
    markdown_table,
    open_data,
    plots,
    prepare,
    result_notes,
    sample_canvases,
    stability_curves,
)
from antialiased_zoo.training import launcher, versions

AMP = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(argv=list(argv))
    parser.add_argument("models", nargs="+", help=GRAMMAR)
    parser.add_argument("--data", "--data-dir", "--data-path", required=True, help=DATA_GRAMMAR)
    parser.add_argument(
        "--labels", type=Path, help="labels of a flat folder: ImageNet's devkit, or a file of lines `image class`"
    )
    parser.add_argument(
        "--agree-with",
        metavar="MODEL",
        help="label the images with this model's predictions, so that accuracy is agreement with it",
    )
    parser.add_argument(
        "--classes",
        "--class-map",
        metavar="FILE|same-order",
        help="the models' class names in output order, one per line or as JSON; or a JSON map from class to output",
    )
    parser.add_argument("--out", "--output-dir", type=Path, help="folder for results.json, table.md and pictures")
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=["accuracy", "crop", "circular"],
        help=f"{', '.join(PROBES)}, features, or MODULE:CLASS of a Probe",
    )
    parser.add_argument("--limit", type=positive, help="measure this many images, evenly spaced")
    _add_protocol(parser.add_argument_group("preprocessing and protocol; default: as stated with the weights"))
    features = parser.add_argument_group("features, curves")
    features.add_argument("--layers", nargs="+", help="default: up to four, spread over the depth")
    features.add_argument("--grid", type=positive, default=8, help="shifts of 0 to GRID-1 pixels along each axis")
    features.add_argument("--feature-images", type=positive, default=8)
    features.add_argument(
        "--curve-image", type=natural, default=0, help="index of the image whose stability curves are drawn"
    )
    parser.add_argument("--imagenet-c", type=Path, metavar="DIR")
    parser.add_argument("--imagenet-p", type=Path, metavar="DIR", help="unpacked to frames")
    _add_running(parser.add_argument_group("execution; figures do not depend on it, except for rounding"))
    return parser.parse_intermixed_args(argv)  # options may come between the models


def _add_protocol(group: Any) -> None:
    group.add_argument("--mean", type=float, nargs=3, help="mean of each channel, for pixels in 0..1")
    group.add_argument("--std", type=above_zero, nargs=3, help="standard deviation of each channel, for pixels in 0..1")
    group.add_argument("--interpolation", choices=("nearest", "bilinear", "bicubic"))
    group.add_argument("--crop-pct", type=part, help="the crop's share of the resized side, instead of --resize")
    group.add_argument("--resize", "--val-resize-size", type=positive, help="shorter side in pixels")
    group.add_argument(
        "--crop", "--img-size", "--val-crop-size", type=positive, help="side of the models' input in pixels"
    )
    group.add_argument("--room", action="store_true", help="resize to a larger size if there is no room to shift crops")
    group.add_argument("--protocol", choices=PROTOCOLS, default="auto")
    group.add_argument("--paper", action="store_true", help="draw crop pairs exactly as the published script does")
    group.add_argument("--pairs", type=positive, default=1, help="pairs of shifts per image")
    group.add_argument("--seed", type=natural, default=0)


def _add_running(group: Any) -> None:
    group.add_argument("--device", default="auto", help="auto, cpu, cuda ...")
    group.add_argument("--amp", "--amp-dtype", nargs="?", const="float16", choices=AMP, help="mixed precision")
    group.add_argument("--channels-last", action="store_true")
    group.add_argument("--workers", "-j", type=natural, default=min(8, (os.cpu_count() or 1) - 1))
    group.add_argument("--batch-size", "-b", type=positive, default=64)
    group.add_argument("--threads", type=positive, help="CPU threads")
    group.add_argument("--no-progress", action="store_true")
    group.add_argument("--no-digest", action="store_true", help="skip the data's digest, which reads all data once")
    group.add_argument("--overhead", action="store_true", help="compare the time with that of the forward passes alone")


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    if args.agree_with and (args.labels or args.classes):
        raise ValueError("--agree-with takes its labels from a model: leave out --labels and --classes")
    device = start(args)
    makers = {name: find_probe(name) for name in args.metrics if name != "features"}
    needs_classes = any(create(Settings(1)).needs_targets for create in makers.values())
    if args.agree_with and not needs_classes:
        raise ValueError("--agree-with labels images for accuracy: none of the --metrics uses labels")
    images = open_data(args.data, args.labels, labelled=needs_classes and not args.agree_with)
    thin_out(images, args)
    options = Options(
        device, args.batch_size, args.workers, AMP.get(args.amp), args.channels_last, not args.no_progress
    )
    settings = Settings(len(images), args.pairs, args.seed, args.paper)

    def make() -> dict[str, Probe]:
        return {name: create(settings) for name, create in makers.items()}

    flags = preprocessing_flags(args)

    def ready(spec: str, count: int | None) -> Subject:
        return prepare(spec, options, count, args.protocol, flags, args.seed, args.room)

    original = ready(args.agree_with, None) if args.agree_with else None
    count = original.outputs if original else len(images.classes) if needs_classes else None
    subjects = [ready(spec, count) for spec in args.models]
    if len({one.named.label for one in subjects}) < len(subjects):
        raise ValueError("two models have the same label; name them apart with LABEL=SPEC")
    if original:
        maps = {one.named.label: same_outputs(one, original) for one in subjects}
        label(images, original, options)
    else:
        maps = {one.named.label: one.match(images.classes, args.classes) for one in subjects if needs_classes}
    for note in [one.note() for one in subjects] + [f"{label}: classes matched {m.how}" for label, m in maps.items()]:
        say(note)
    results = measure(subjects, images, make, maps, args, options)
    if first_process():
        report(results, subjects, images, args)


def say(text: str) -> None:
    """Print to the standard error; the standard output has only the table."""
    if first_process():
        print(text, file=sys.stderr)


def first_process() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def preprocessing_flags(args: argparse.Namespace) -> dict[str, Any]:
    names = ("mean", "std", "interpolation", "crop_pct", "resize", "crop")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def start(args: argparse.Namespace) -> torch.device:
    if args.threads:
        torch.set_num_threads(args.threads)
    device = find_device(args.device)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def thin_out(images: LabelledImages, args: argparse.Namespace) -> None:
    """Select evenly spaced images, so that every class is kept, and check the options about them."""
    if args.limit and args.limit < len(images):
        images.keep([index * len(images) // args.limit for index in range(args.limit)])
    if not 0 <= args.curve_image < len(images):
        raise ValueError(f"--curve-image {args.curve_image}: the images are numbered 0 to {len(images) - 1}")


def same_outputs(one: Subject, original: Subject) -> ClassMap:
    """Return the outputs that answer for the original's: the same ones.

    Raises:
        ValueError: The model has other classes.
    """
    names = [model.named.classes and list(model.named.classes) for model in (one, original)]
    if one.outputs != original.outputs or (all(names) and names[0] != names[1]):
        raise ValueError(f"{one.named.label} has other classes than {original.named.label}: they cannot agree")
    return ClassMap(list(range(one.outputs)), f"with the outputs of {original.named.label}")


def label(images: LabelledImages, original: Subject, options: Options) -> None:
    """Replace the images' classes by a model's predictions for their centre crops."""
    batches = PhotoBatches(images, range(len(images)), original.protocol.preprocessing)
    bar = tqdm(batches, total=len(batches), desc="label", disable=not options.progress or not first_process())
    images.targets = logits_of(original.named.model, bar, options.device).argmax(1).tolist()
    images.classes = list(original.named.classes or map(str, range(original.outputs)))


def measure(
    subjects: Sequence[Subject],
    images: LabelledImages,
    make: Callable[[], dict[str, Probe]],
    maps: Mapping[str, ClassMap],
    args: argparse.Namespace,
    options: Options,
) -> dict[str, dict[str, Any]]:
    """Measure all models in one pass over the images; return each model's entry of the JSON."""
    models = {one.named.label: one.named.model for one in subjects}
    protocols = {one.named.label: one.protocol for one in subjects}
    results = {one.named.label: facts_of(one, maps.get(one.named.label)) for one in subjects}
    if make():
        class_index = {label: of_model.index for label, of_model in maps.items()}
        found = evaluate(models, images, make, protocols, options, class_index, args.seed)
        first = subjects[0].named.label
        for label, result in results.items():
            result |= figures_of(found, label)
            if label != first:
                changes = found.differences(label, first)
                result["differences"] = {name: {"to": first, **figure.as_dict()} for name, figure in changes.items()}
        if args.overhead:
            print_overhead(found, models, protocols, options)
    for protocol in dict.fromkeys(protocols.values()):
        group = [one for one in subjects if one.protocol == protocol]
        for label, extra in extras(group, images, maps, args, options).items():
            results[label] |= extra
    return results


def extras(
    group: Sequence[Subject],
    images: LabelledImages,
    maps: Mapping[str, ClassMap],
    args: argparse.Namespace,
    options: Options,
) -> dict[str, dict[str, Any]]:
    """Return the results that are not means over the data set, for models that share a protocol."""
    protocol, models = group[0].protocol, {one.named.label: one.named.model for one in group}
    found: dict[str, dict[str, Any]] = {label: {} for label in models}

    def index(classes: Sequence[str]) -> dict[str, list[int]]:
        return {one.named.label: one.match(classes, args.classes).index for one in group}

    if args.imagenet_c:
        for label, figures in imagenet_c(models, args.imagenet_c, protocol.preprocessing, options, index).items():
            found[label]["imagenet_c"] = figures
    if args.imagenet_p:
        for label, figures in imagenet_p(models, args.imagenet_p, protocol.preprocessing, options).items():
            found[label]["imagenet_p"] = figures
    if "features" in args.metrics:
        count = min(args.feature_images, len(images))
        spread = [index * len(images) // count for index in range(count)]
        canvases = sample_canvases(images, spread, protocol, options.device)
        for label, layers in feature_maps(models, canvases, protocol, args.grid, args.layers).items():
            found[label]["feature_distance"] = layers
    if "diagonal" in args.metrics:
        canvas = sample_canvases(images, [args.curve_image], protocol, options.device)
        for label, model in models.items():
            target = maps[label].index[images.targets[args.curve_image]]
            curve = stability_curves({label: model}, canvas, target, protocol)[label]
            found[label]["curve"] = {"image": images.samples[args.curve_image], **curve}
    return found


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


def print_overhead(
    found: Evaluation,
    models: Mapping[str, torch.nn.Module],
    protocols: Mapping[str, ShiftProtocol],
    options: Options,
) -> None:
    if not first_process():
        return
    world = dist.get_world_size() if dist.is_initialized() else 1
    views = {label: count // world for label, count in found.views.items()}
    bare = bare_seconds(models, views, protocols, options)
    print(
        f"{found.images} images, {max(found.views.values())} views: {found.seconds:.2f} s, bare forward passes "
        f"{bare:.2f} s, ratio {found.seconds / bare:.3f}"
    )


def report(
    results: Mapping[str, Mapping[str, Any]],
    subjects: Sequence[Subject],
    images: LabelledImages,
    args: argparse.Namespace,
) -> None:
    """Print the table, and write all results if there is an output folder."""
    command = shlex.join([*(launcher() or ["python"]), "scripts/evaluate.py", *args.argv])
    figures = {label: result["figures"] for label, result in results.items() if "figures" in result}
    errors = next(iter(results.values())).get("skipped", ())
    notes = [f"{len(images)} images of {args.data}, {len(errors)} skipped", f"`{command}`"]
    notes += [f"top-1 is agreement with {args.agree_with}"] if args.agree_with else []
    notes += [one.note() for one in subjects]
    notes += [note for label, result in results.items() for note in result_notes(label, result)]
    table = markdown_table(figures, notes)
    print(table)
    for error in errors:
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


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    try:
        main(sys.argv[1:])
    except (ZooError, ValueError, OSError, ImportError) as error:
        sys.exit(f"evaluate: {error}")
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
