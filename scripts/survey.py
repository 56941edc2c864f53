"""Antialias every network of torchvision, timm's families of convnets, and networks of transformers; check each.

python scripts/survey.py                                  # all of them; resumes where it stopped
python scripts/survey.py 'timm:resnet*' --again           # these again
python scripts/survey.py 'torchvision:*' --seconds 400    # stop after the network that passes this
python scripts/survey.py 'torchvision:*' --feature-distance photos.zip

For each network: its output shapes at two input sizes, filter size 1 against the original, every op that strides
(recorded while it runs) against the plan, and what must not change. Nothing is downloaded; weights are random.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import functools
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from benchmarks.report import commit
from coverage_checks import Coverage, Size, check
from feature_checks import Distances, distances
from running import run_script
from survey_names import FROZEN, HUGGING_FACE, TIMM, TRANSFORMERS
from torch import nn
from torchvision.models import detection, segmentation
from torchvision.ops import FrozenBatchNorm2d
from tqdm import tqdm

from antialiased_zoo.cli.numbers import positive
from antialiased_zoo.evaluation import open_images
from antialiased_zoo.training import check_settings, made_folder, write_json

IMAGES: tuple[tuple[Size, ...], ...] = tuple(
    tuple((3, *size) for size in sizes)
    for sizes in (
        *(((96, 96), (97, 129)), ((128, 128), (160, 192)), ((224, 224), (256, 320)), ((300, 300), (320, 352))),
        *(((224, 224),), ((256, 256),)),
    )
)
CLIPS: tuple[tuple[Size, ...], ...] = (
    ((3, 8, 64, 64), (3, 9, 65, 80)),
    ((3, 16, 224, 224), (3, 17, 225, 240)),
)


def networks() -> Iterator[tuple[str, Callable[[], nn.Module], Sequence[Sequence[Size]]]]:
    """Names, builders, and shapes to try."""
    for name in torchvision.models.list_models(module=torchvision.models):
        yield f"torchvision:{name}", functools.partial(_torchvision, name), IMAGES
    for name in torchvision.models.list_models(module=segmentation):
        yield f"segmentation:{name}", functools.partial(_torchvision, name, weights_backbone=None), IMAGES
    for name in torchvision.models.list_models(module=detection):
        yield f"detection:{name}", functools.partial(_backbone, name), IMAGES
    for name in FROZEN:
        yield f"frozen:{name}", functools.partial(_frozen, name), IMAGES
    for name in ("mc3_18", "r2plus1d_18", "r3d_18", "s3d"):  # the others are transformers
        yield f"video:{name}", functools.partial(_torchvision, name), CLIPS
    for name in " ".join(TIMM.values()).split():
        yield f"timm:{name}", functools.partial(timm.create_model, name, pretrained=False), IMAGES
    for name in HUGGING_FACE:
        yield f"transformers:{name}", functools.partial(_hugging_face, name), IMAGES


def _torchvision(name: str, **options: Any) -> nn.Module:
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False  # their initialisation takes minutes
    return torchvision.models.get_model(name, weights=None, **options)


def _hugging_face(name: str) -> nn.Module:
    import transformers  # slow to import

    return transformers.AutoModel.from_config(transformers.AutoConfig.for_model(name))


def _backbone(name: str) -> nn.Module:
    return torchvision.models.get_model(name, weights=None, weights_backbone=None).backbone


def _frozen(name: str) -> nn.Module:
    """A detector's backbone with the frozen norms that torchvision uses for pretrained weights."""
    backbone = _backbone(name)
    for parent in list(backbone.modules()):
        for child_name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, child_name, FrozenBatchNorm2d(child.num_features, child.eps))
    return backbone


def survey(check_one: Callable[[str], Any], path: Path, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Check the networks whose names match, and save each result as soon as it is known.

    Raises:
        ValueError: If the file holds results with other versions or photos.
    """
    names = [name for name, *_ in networks()]
    asked = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in args.names)]
    facts: dict[str, Any] = {
        "versions": {
            **{module.__name__: module.__version__ for module in (torch, torchvision, timm)},
            "transformers": version("transformers"),
        }
    }
    if args.feature_distance:
        facts["photos"] = f"{args.feature_distance.name} {open_images(args.feature_distance).quick_digest()[:8]}"
    found = {} if args.again and asked == names else earlier(path, facts)
    todo = [name for name in asked if args.again or name not in found]
    start = time.monotonic()
    with multiprocessing.get_context("forkserver").Pool(args.jobs) as pool:
        for result in tqdm(pool.imap_unordered(check_one, todo), total=len(todo), disable=None):
            found[result.name] = {**dataclasses.asdict(result), "commit": commit()}
            ordered = {name: found[name] for name in names if name in found}
            write_json(path, {**facts, "networks": ordered})
            if time.monotonic() - start > args.seconds:
                break
    return {name: found[name] for name in names if name in found}


def earlier(path: Path, facts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The earlier results with the same versions and photos; each states its commit."""
    if not path.exists():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = record.pop("networks")
    check_settings(path, record, facts)
    return found


def checked(name: str) -> Coverage:
    """Check one network by its name; an error is a result too."""
    torch.set_num_threads(1)
    build, shapes = next((build, shapes) for known, build, shapes in networks() if known == name)
    try:
        return check(name, build, shapes)
    except Exception as error:  # one network must not end the survey
        return Coverage(name, faults=[f"{type(error).__name__}: {error}".splitlines()[0]])


def measured(photos: Path, name: str) -> Distances:
    """Measure one network's internal feature distances; an error is a result too."""
    torch.set_num_threads(1)
    build = next(build for known, build, _ in networks() if known == name)
    try:
        return distances(name, build, photos)
    except Exception as error:  # as above
        return Distances(name, faults=[f"{type(error).__name__}: {error}".splitlines()[0]])


def markdown(found: dict[str, dict[str, Any]]) -> str:
    """The table: one network per row, and totals."""
    lines = [
        "| network | form | strided | treated (by modules) | filter size 1 | input sizes | left, why |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, c in found.items():
        identity = "" if c["identity"] is None else f"{c['identity']:.0e}"
        identity += " (float64)" if c["precision"] == "float64" else ""
        why = "; ".join(f"{n}x {reason}" for reason, n in c["skipped"].items()) + "".join(
            f"; note: {note}" for note in c["notes"]
        )
        fault = f" **{'; '.join(c['faults'])}**" if c["faults"] else ""
        treated = f"{c['treated']} ({c['treated_by_modules']})"
        sizes = ", ".join("x".join(map(str, size)) for size in c["sizes"])
        cells = (name, c["form"], c["strided"], treated, identity, sizes, f"{why}{fault}".replace("|", "/"))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(["", *totals(found), "", *lines, ""]).lstrip("\n")


def totals(found: dict[str, dict[str, Any]]) -> list[str]:
    """The number of networks of each collection that pass."""
    convnets = [n for n in found if n.startswith("torchvision:") and n.split(":")[1] not in TRANSFORMERS]
    groups = {
        "torchvision's classification convnets": convnets,
        "torchvision's transformers": [n for n in found if n.split(":")[1] in TRANSFORMERS],
        **{
            text: [n for n in found if n.startswith(prefix)]
            for text, prefix in (
                ("torchvision's segmentation networks", "segmentation:"),
                ("torchvision's detection backbones", "detection:"),
                ("pretrained detectors' backbones, their batch norms frozen", "frozen:"),
                ("torchvision's video networks", "video:"),
                ("timm's networks", "timm:"),
                ("transformers' image networks", "transformers:"),
            )
        },
    }
    return [
        f"- {text}: {sum(not found[name]['faults'] for name in names)} of {len(names)} right"
        for text, names in groups.items()
    ]


def distance_table(found: dict[str, dict[str, Any]]) -> str:
    """One network per row: original -> antialiased, as a mean, at the last downsampling, and where it does not fall."""
    lines = [
        "| network | downsamplings | fall | mean distance | at the last | not falling |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, result in found.items():
        pairs = result["layers"]
        if not pairs:
            continue
        means = [sum(pair[i] for pair in pairs.values()) / len(pairs) for i in (0, 1)]
        last = list(pairs.values())[-1]
        risen = {layer: pair for layer, pair in pairs.items() if not pair[1] < pair[0]}
        where = ", ".join(f"{layer} {_arrow(pair)}" for layer, pair in risen.items())
        cells = (name, len(pairs), len(pairs) - len(risen), _arrow(means), _arrow(last), where)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, ""])


def distance_totals(found: dict[str, dict[str, Any]]) -> list[str]:
    """The number of downsamplings, and of networks, at which the distance falls."""
    pairs = {name: result["layers"].values() for name, result in found.items() if result["layers"]}
    every = [pair for layers in pairs.values() for pair in layers]
    falls = sum(after < before for before, after in every)
    whole = sum(all(after < before for before, after in layers) for layers in pairs.values())
    ratio = statistics.median(after / before for before, after in every)
    return [
        f"- falls after {falls} of {len(every)} downsamplings",
        f"- falls after every downsampling in {whole} of {len(pairs)} networks",
        f"- antialiased / original, median over the downsamplings: {ratio:.2f}",
    ]


def _arrow(pair: Sequence[float]) -> str:
    return f"{pair[0]:.4f} -> {pair[1]:.4f}"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["*"], help="patterns of names; default: all")
    parser.add_argument("--out", type=Path, default=Path("results/survey"))
    parser.add_argument("--again", action="store_true", help="also check what was checked before")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="stop after the network that exceeds this time"
    )
    parser.add_argument("--jobs", type=positive, default=1, help="processes, with one thread each")
    parser.add_argument(
        "--feature-distance", type=Path, metavar="ZIP", help="measure the internal feature distance on these photos"
    )
    args = parser.parse_args(argv)
    made_folder(args.out)
    if args.feature_distance:
        found = survey(functools.partial(measured, args.feature_distance), args.out / "distance.json", args)
        (args.out / "distance.md").write_text(distance_table(found), encoding="utf-8")
        print("\n".join(distance_totals(found)))
    else:
        found = survey(checked, args.out / "coverage.json", args)
        (args.out / "coverage.md").write_text(markdown(found), encoding="utf-8")
        print("\n".join(totals(found)))
    wrong = {name: result["faults"] for name, result in found.items() if result["faults"]}
    for name, faults in wrong.items():
        print(f"{name}: {'; '.join(faults)}")
    return bool(wrong)


if __name__ == "__main__":
    run_script(main, sys.argv[1:])
