"""Measure accuracy and shift-invariance of models side by side; see scripts/README.md.

python scripts/evaluate.py resnet50:baseline:torchvision resnet50:lpf4:finetuned --data imagenet/val --out results
torchrun --nproc-per-node 8 scripts/evaluate.py ...        # the same figures, faster
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from antialiased_zoo.cli.numbers import above_zero, natural, part, positive
from antialiased_zoo.errors import ZooError
from antialiased_zoo.evaluation import (
    DATA_GRAMMAR,
    GRAMMAR,
    PAPER_PAIRS,
    PROBES,
    PROTOCOLS,
    ClassMap,
    CorruptImageError,
    Evaluation,
    LabelledImages,
    Options,
    PhotoBatches,
    Probe,
    Settings,
    Subject,
    bare_seconds,
    chosen_layers,
    evaluate,
    feature_maps,
    find_probe,
    imagenet_c,
    imagenet_p,
    markdown_table,
    open_data,
    open_images,
    perturbation_folders,
    plots,
    predictions_of,
    prepare,
    result_notes,
    sample_canvases,
    stability_curves,
)
from antialiased_zoo.metrics import corruption_folders
from antialiased_zoo.training import launcher, processes, versions, write_json

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
        "--curve-image",
        type=natural,
        help="index in the data set of the image whose stability curves are drawn; default: the first",
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
    group.add_argument("--pairs", type=positive, help="pairs of shifts per image; default: 1")
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
    if args.paper and args.pairs:
        raise ValueError(f"--paper draws {PAPER_PAIRS} pairs of crops, like the published script: leave out --pairs")
    if args.threads:
        torch.set_num_threads(args.threads)
    with processes(args.device) as (device, _, _):
        run(args, device)


def run(args: argparse.Namespace, device: torch.device) -> None:
    makers = {name: find_probe(name) for name in args.metrics if name != "features"}
    drawn = Settings(1, args.pairs or 1, args.seed, args.paper)
    needs_classes = any(create(drawn).needs_targets for create in makers.values())
    if args.agree_with and not needs_classes:
        raise ValueError("--agree-with labels images for accuracy: none of the --metrics uses labels")
    labelled = needs_classes and not args.agree_with
    images = open_data(args.data, args.labels, labelled=labelled, hide_bar=hide_bar(args))
    settings = Settings(len(images), args.pairs or 1, args.seed, args.paper)  # pairs depend on the whole data set
    images.thin_out(args.limit)
    curve = place_of(images, args.curve_image) if "diagonal" in args.metrics else 0
    options = Options(
        device, args.batch_size, args.workers, AMP.get(args.amp), args.channels_last, not args.no_progress
    )

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
    layers = check_extras(subjects, args, options)
    results = {one.named.label: facts_of(one, maps.get(one.named.label)) for one in subjects}
    found = measure(results, subjects, images, make, maps, args, options) if makers else None
    if args.out and first_process():
        write(results, images, args)
    try:  # whatever happens to the rest, the figures are reported
        for group in by_protocol(subjects):
            for name, extra in extras(group, images, maps, args, options, layers, curve):
                results[name] |= extra
        if found and args.overhead:
            say(overhead(found, subjects, options))
    finally:
        if first_process():
            report(results, subjects, images, args)


def hide_bar(args: argparse.Namespace) -> bool | None:
    """What tqdm takes as `disable`; None shows a bar on a terminal."""
    return True if args.no_progress or not first_process() else None


def say(text: str) -> None:
    """Print to the standard error; the standard output has only the table."""
    if first_process():
        print(text, file=sys.stderr)


def first_process() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def preprocessing_flags(args: argparse.Namespace) -> dict[str, Any]:
    names = ("mean", "std", "interpolation", "crop_pct", "resize", "crop")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def place_of(images: LabelledImages, number: int | None) -> int:
    """Return the place among the measured images of the one with this number in the data set; None is the first.

    Raises:
        ValueError: If it is not measured.
    """
    if number is None:
        return 0
    if number not in images.numbers:
        some = ", ".join(map(str, images.numbers[:3]))
        raise ValueError(
            f"--curve-image {number}: the {len(images)} images that are measured are numbered {some} ... "
            f"{images.numbers[-1]}"
        )
    return images.numbers.index(number)


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
    photos = PhotoBatches(images, range(len(images)), original.protocol.preprocessing)
    hidden = None if options.progress and first_process() else True
    images.targets = predictions_of(original.named.model, photos, options.device, hidden)
    images.classes = list(original.named.classes or map(str, range(original.outputs)))


def check_extras(subjects: Sequence[Subject], args: argparse.Namespace, options: Options) -> dict[str, Sequence[str]]:
    """Refuse before the work what could not be done after it; return the layers of each protocol's first model."""
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    if args.imagenet_c:
        first = next(iter(corruption_folders(args.imagenet_c).values()))[0]
        for one in subjects:
            one.match(open_images(first).classes, args.classes)
    if args.imagenet_p:
        perturbation_folders(args.imagenet_p)
    if "features" not in args.metrics:
        return {}
    layers = {}
    for group in by_protocol(subjects):
        noise = torch.randn(1, 3, *[group[0].protocol.size] * 2, generator=torch.Generator().manual_seed(0))
        models = {one.named.label: one.named.model for one in group}
        layers[group[0].named.label] = chosen_layers(models, noise.to(options.device), args.layers)
    return layers


def by_protocol(subjects: Sequence[Subject]) -> list[list[Subject]]:
    return [
        [one for one in subjects if one.protocol == protocol]
        for protocol in dict.fromkeys(one.protocol for one in subjects)
    ]


def measure(
    results: Mapping[str, dict[str, Any]],
    subjects: Sequence[Subject],
    images: LabelledImages,
    make: Callable[[], dict[str, Probe]],
    maps: Mapping[str, ClassMap],
    args: argparse.Namespace,
    options: Options,
) -> Evaluation:
    """Measure all models in one pass over the images, and add the figures to each model's entry of the JSON."""
    models = {one.named.label: one.named.model for one in subjects}
    protocols = {one.named.label: one.protocol for one in subjects}
    class_index = {label: of_model.index for label, of_model in maps.items()}
    found = evaluate(models, images, make, protocols, options, class_index, args.seed)
    first = subjects[0].named.label
    for label, result in results.items():
        result |= figures_of(found, label)
        if label != first:
            changes = found.differences(label, first)
            result["differences"] = {name: {"to": first, **figure.as_dict()} for name, figure in changes.items()}
    return found


def extras(
    group: Sequence[Subject],
    images: LabelledImages,
    maps: Mapping[str, ClassMap],
    args: argparse.Namespace,
    options: Options,
    layers: Mapping[str, Sequence[str]],
    curve: int,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the results that are not means over the data set, for models that share a protocol."""
    protocol, models = group[0].protocol, {one.named.label: one.named.model for one in group}

    def index(classes: Sequence[str]) -> dict[str, list[int]]:
        return {one.named.label: one.match(classes, args.classes).index for one in group}

    if "features" in args.metrics:
        count = min(args.feature_images, len(images))
        spread = [index * len(images) // count for index in range(count)]
        canvases = sample_canvases(images, spread, protocol, options.device)
        chosen = layers[group[0].named.label]
        for label, maps_of in feature_maps(models, canvases, protocol, args.grid, chosen).items():
            yield label, {"feature_distance": maps_of}
    if "diagonal" in args.metrics:
        yield from curves(group, images, curve, maps, options)
    if args.imagenet_c:
        for label, figures in imagenet_c(models, args.imagenet_c, protocol.preprocessing, options, index).items():
            yield label, {"imagenet_c": figures}
    if args.imagenet_p:
        for label, figures in imagenet_p(models, args.imagenet_p, protocol.preprocessing, options).items():
            yield label, {"imagenet_p": figures}


def curves(
    group: Sequence[Subject], images: LabelledImages, place: int, maps: Mapping[str, ClassMap], options: Options
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each model's stability curve of one image, if it can be decoded."""
    protocol = group[0].protocol
    try:
        canvas = sample_canvases(images, [place], protocol, options.device)
    except CorruptImageError as error:
        say(f"no stability curve: {error}")
        return
    for one in group:
        label = one.named.label
        target = maps[label].index[images.targets[place]]
        curve = stability_curves({label: one.named.model}, canvas, target, protocol)[label]
        yield label, {"curve": {"image": images.samples[place], **curve}}


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
) -> None:
    """Print the table, and write all results if there is an output folder."""
    figures = {label: result["figures"] for label, result in results.items() if "figures" in result}
    errors = next(iter(results.values())).get("skipped", ())
    notes = [f"{len(images)} images of {args.data}, {len(errors)} skipped", f"`{command(args)}`"]
    notes += [f"top-1 is agreement with {args.agree_with}"] if args.agree_with else []
    notes += [one.note() for one in subjects]
    notes += [note for label, result in results.items() for note in result_notes(label, result)]
    table = markdown_table(figures, notes)
    print(table)
    for error in errors:
        print(f"skipped: {error}", file=sys.stderr)
    if args.out is None:
        return
    (args.out / "table.md").write_text(table)
    write(results, images, args)
    if not args.no_digest:  # it reads all data once more: what is measured is on the disk before
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


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    try:
        main(sys.argv[1:])
    except (ZooError, ValueError, OSError, ImportError) as error:
        sys.exit(f"evaluate: {error}")
