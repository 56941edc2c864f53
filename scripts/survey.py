"""Antialias every network of torchvision, and of timm's families of convnets, and check what comes out.

python scripts/survey.py                                  # all of them; goes on where it was stopped
python scripts/survey.py 'timm:resnet*' --again           # these anew
python scripts/survey.py 'torchvision:*' --seconds 400    # stop after the network that passes this

For each network: its output shapes at two input sizes, filter size 1 against the original, every op that strides
(seen while it runs) against the plan, and what must stay as it was. Nothing is downloaded; weights are random.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import functools
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from coverage_checks import Coverage, Size, check
from survey_names import TIMM, TRANSFORMERS
from torch import nn
from torchvision.models import detection, segmentation, video
from tqdm import tqdm

IMAGES: tuple[tuple[Size, ...], ...] = tuple(
    tuple((3, *size) for size in sizes)
    for sizes in (
        *(((96, 96), (97, 129)), ((128, 128), (160, 192)), ((224, 224), (256, 320)), ((300, 300), (320, 352))),
        *(((224, 224),), ((256, 256),)),
    )
)
CLIPS: tuple[tuple[Size, ...], ...] = (((3, 8, 64, 64), (3, 9, 65, 80)), ((3, 16, 64, 64), (3, 16, 96, 96)))


def networks() -> Iterator[tuple[str, Callable[[], nn.Module], Sequence[Sequence[Size]]]]:
    """Names, makers, and shapes to try."""
    for name in torchvision.models.list_models(module=torchvision.models):
        yield f"torchvision:{name}", functools.partial(_torchvision, name), IMAGES
    for name in torchvision.models.list_models(module=segmentation):
        yield f"segmentation:{name}", functools.partial(_torchvision, name, weights_backbone=None), IMAGES
    for name in torchvision.models.list_models(module=detection):
        yield f"detection:{name}", functools.partial(_backbone, name), IMAGES
    for name in torchvision.models.list_models(module=video):
        yield f"video:{name}", functools.partial(_torchvision, name), CLIPS
    for name in " ".join(TIMM.values()).split():
        yield f"timm:{name}", functools.partial(timm.create_model, name, pretrained=False), IMAGES


def _torchvision(name: str, **options: Any) -> nn.Module:
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False  # theirs takes minutes
    return torchvision.models.get_model(name, weights=None, **options)


def _backbone(name: str) -> nn.Module:
    return torchvision.models.get_model(name, weights=None, weights_backbone=None).backbone


def survey(patterns: Sequence[str], out: Path, again: bool, seconds: float, jobs: int) -> dict[str, dict[str, Any]]:
    """Check the networks whose names match, and keep each result as soon as it is there."""
    path = out / "coverage.json"
    found: dict[str, dict[str, Any]] = json.loads(path.read_text())["networks"] if path.exists() else {}
    names = [name for name, *_ in networks()]
    todo = [n for n in names if any(fnmatch.fnmatch(n, p) for p in patterns) and (again or n not in found)]
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__}
    start = time.monotonic()
    with multiprocessing.get_context("forkserver").Pool(jobs) as pool:
        for coverage in tqdm(pool.imap_unordered(checked, todo), total=len(todo), disable=None):
            found[coverage.name] = dataclasses.asdict(coverage)
            ordered = {name: found[name] for name in names if name in found}
            path.write_text(json.dumps({"versions": versions, "networks": ordered}, indent=1) + "\n")
            if time.monotonic() - start > seconds:
                break
    return {name: found[name] for name in names if name in found}


def checked(name: str) -> Coverage:
    """Check one network by its name; an error is a result too."""
    torch.set_num_threads(1)
    build, shapes = next((build, shapes) for known, build, shapes in networks() if known == name)
    try:
        return check(name, build, shapes)
    except Exception as error:  # one network must not end the survey
        return Coverage(name, faults=[f"{type(error).__name__}: {error}".splitlines()[0]])


def markdown(found: dict[str, dict[str, Any]]) -> str:
    """The table: one network a line, and totals."""
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
    """How many of each collection are right."""
    convnets = [n for n in found if n.startswith("torchvision:") and n.split(":")[1] not in TRANSFORMERS]
    groups = {
        "torchvision's classification convnets": convnets,
        "torchvision's transformers": [n for n in found if n.split(":")[1] in TRANSFORMERS],
        **{
            text: [n for n in found if n.startswith(prefix)]
            for text, prefix in (
                ("torchvision's segmentation networks", "segmentation:"),
                ("torchvision's detection backbones", "detection:"),
                ("torchvision's video networks", "video:"),
                ("timm's networks", "timm:"),
            )
        },
    }
    return [
        f"- {text}: {sum(not found[name]['faults'] for name in names)} of {len(names)} right"
        for text, names in groups.items()
    ]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["*"], help="patterns of names; all by default")
    parser.add_argument("--out", type=Path, default=Path("results/survey"))
    parser.add_argument("--again", action="store_true", help="also what was checked before")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after the network that passes this")
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    found = survey(args.names, args.out, args.again, args.seconds, args.jobs)
    (args.out / "coverage.md").write_text(markdown(found))
    print("\n".join(totals(found)))
    wrong = {name: c["faults"] for name, c in found.items() if c["faults"]}
    for name, faults in wrong.items():
        print(f"{name}: {'; '.join(faults)}")
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
