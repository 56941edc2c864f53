"""Measure accuracy and shift-invariance of models side by side; see scripts/README.md.

python scripts/evaluate.py resnet50:baseline:torchvision resnet50:lpf4:finetuned --data imagenet/val --out results
torchrun --nproc-per-node 8 scripts/evaluate.py ...        # the same figures, faster
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from evaluate_options import AMP, parse, preprocessing_flags
from evaluate_report import facts_of, figures_of, first_process, hide_bar, overhead, report, say, write
from running import run_script

from antialiased_zoo import keep_freed_memory
from antialiased_zoo.evaluation import (
    ClassMap,
    CorruptImageError,
    Evaluation,
    LabelledImages,
    Options,
    PhotoBatches,
    Probe,
    Settings,
    Subject,
    chosen_layers,
    evaluate,
    feature_maps,
    find_probe,
    imagenet_c,
    imagenet_p,
    open_data,
    open_images,
    perturbation_folders,
    predictions_of,
    prepare,
    sample_canvases,
    stability_curves,
)
from antialiased_zoo.metrics import corruption_folders
from antialiased_zoo.training import made_folder, processes


def main(argv: Sequence[str]) -> None:
    args = parse(argv, __doc__)
    if args.threads:
        torch.set_num_threads(args.threads)
    with processes(args.device) as (device, _, _):
        run(args, device)


def run(args: argparse.Namespace, device: torch.device) -> None:
    """Measure and report."""
    makers = {name: find_probe(name) for name in args.metrics if name != "features"}
    labelled = needs_labels(makers, args)
    images = open_data(args.data, args.labels, labelled=labelled and not args.agree_with, hide_bar=hide_bar(args))
    settings = settings_of(args, len(images))  # pairs depend on the whole data set
    images.thin_out(args.limit)
    curve = place_of(images, args.curve_image) if "diagonal" in args.metrics else 0
    batch = args.batch_size or (8 if device.type == "cpu" else 64)
    options = Options(device, batch, args.workers, AMP.get(args.amp), args.channels_last, not args.no_progress)
    subjects, maps = load(images, labelled, args, options)
    for note in [one.note() for one in subjects] + [f"{label}: classes matched {m.how}" for label, m in maps.items()]:
        say(note)
    layers = check_extras(subjects, args, options)
    results = {one.named.label: facts_of(one, maps.get(one.named.label)) for one in subjects}

    def make() -> dict[str, Probe]:
        return {name: create(settings) for name, create in makers.items()}

    found = measure(results, subjects, images, make, maps, args, options) if makers else None
    if args.out and first_process():
        write(results, images, args)
    digest = not args.no_digest
    try:  # whatever happens to the rest, the figures are reported
        for group in by_protocol(subjects):
            for name, extra in extras(group, images, maps, args, options, layers, curve):
                results[name] |= extra
        if found and args.overhead:
            say(overhead(found, subjects, options))
    except KeyboardInterrupt:
        digest = False  # it would read all data first
        raise
    finally:
        if first_process():
            report(results, subjects, images, args, digest)


def settings_of(args: argparse.Namespace, images: int) -> Settings:
    return Settings(images, args.pairs or 1, args.seed, args.paper)


def needs_labels(makers: Mapping[str, Callable[[Settings], Probe]], args: argparse.Namespace) -> bool:
    """True if a measure uses the images' classes.

    Raises:
        ValueError: If none does, but --agree-with is to state them.
    """
    needed = any(create(settings_of(args, 1)).needs_targets for create in makers.values())
    if args.agree_with and not needed:
        raise ValueError("--agree-with labels images for accuracy: none of the --metrics uses labels")
    return needed


def load(
    images: LabelledImages, labelled: bool, args: argparse.Namespace, options: Options
) -> tuple[list[Subject], dict[str, ClassMap]]:
    """Load the models, and find each one's outputs for the images' classes, which --agree-with replaces.

    Raises:
        ValueError: If two models have the same label, or classes cannot be matched.
    """
    flags = preprocessing_flags(args)

    def ready(spec: str, count: int | None) -> Subject:
        return prepare(spec, options, count, args.protocol, flags, args.seed, args.room)

    original = ready(args.agree_with, None) if args.agree_with else None
    count = original.outputs if original else len(images.classes) if labelled else None
    subjects = [ready(spec, count) for spec in args.models]
    if len({one.named.label for one in subjects}) < len(subjects):
        raise ValueError("two models have the same label; name them apart with LABEL=SPEC")
    if original:
        maps = {one.named.label: same_outputs(one, original) for one in subjects}
        label(images, original, options, hide_bar(args))
    else:
        maps = {one.named.label: one.match(images.classes, args.classes) for one in subjects if labelled}
    return subjects, maps


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


def label(images: LabelledImages, original: Subject, options: Options, hidden: bool | None) -> None:
    """Replace the images' classes by a model's predictions for their centre crops."""
    photos = PhotoBatches(images, range(len(images)), original.protocol.preprocessing)
    images.targets = predictions_of(original.named.model, photos, options.device, hidden)
    images.classes = list(original.named.classes or map(str, range(original.outputs)))


def check_extras(subjects: Sequence[Subject], args: argparse.Namespace, options: Options) -> dict[str, Sequence[str]]:
    """Refuse before the work what could not be done after it; return the layers of each protocol's first model."""
    if args.out:
        made_folder(args.out)
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


if __name__ == "__main__":
    keep_freed_memory()  # of this process; with small batches, a network takes half to a quarter of the time on a CPU
    run_script(main, sys.argv[1:])
