"""The command line of scripts/evaluate.py."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from antialiased_zoo.cli.numbers import above_zero, natural, part, positive
from antialiased_zoo.evaluation import DATA_GRAMMAR, GRAMMAR, PAPER_PAIRS, PROBES, PROTOCOLS

AMP = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def parse(argv: Sequence[str], description: str | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        ValueError: If two options contradict each other.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(argv=list(argv))
    parser.add_argument("models", nargs="+", help=GRAMMAR)
    parser.add_argument("--data", "--data-dir", "--data-path", required=True, help=DATA_GRAMMAR)
    _add_labels(parser)
    parser.add_argument("--out", "--output-dir", type=Path, help="folder for results.json, table.md and pictures")
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=["accuracy", "crop", "circular"],
        help=f"{', '.join(PROBES)}, features, or MODULE:CLASS of a Probe",
    )
    parser.add_argument("--limit", type=positive, help="measure this many images, evenly spaced")
    _add_protocol(parser.add_argument_group("preprocessing and protocol; default: as stated with the weights"))
    _add_features(parser.add_argument_group("features, curves"))
    parser.add_argument("--imagenet-c", type=Path, metavar="DIR")
    parser.add_argument("--imagenet-p", type=Path, metavar="DIR", help="unpacked to frames")
    _add_running(parser.add_argument_group("execution; figures do not depend on it, except for rounding"))
    args = parser.parse_intermixed_args(argv)  # options may come between the models
    _check(args)
    return args


def _add_labels(group: Any) -> None:
    group.add_argument(
        "--labels", type=Path, help="labels of a flat folder: ImageNet's devkit, or a file of lines `image,class`"
    )
    group.add_argument(
        "--agree-with",
        metavar="MODEL",
        help="label the images with this model's predictions, so that accuracy is agreement with it",
    )
    group.add_argument(
        "--classes",
        "--class-map",
        metavar="FILE|same-order",
        help="the models' class names in output order, one per line or as JSON; or a JSON map from class to output",
    )


def _add_features(group: Any) -> None:
    group.add_argument("--layers", nargs="+", help="default: up to four, spread over the depth")
    group.add_argument("--grid", type=positive, default=8, help="shifts of 0 to GRID-1 pixels along each axis")
    group.add_argument("--feature-images", type=positive, default=8)
    group.add_argument(
        "--curve-image",
        type=natural,
        help="index in the data set of the image whose stability curves are drawn; default: the first",
    )


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
    group.add_argument("--batch-size", "-b", type=positive, help="default: 8 on a CPU, 64 elsewhere")
    group.add_argument("--threads", type=positive, help="CPU threads")
    group.add_argument("--no-progress", action="store_true")
    group.add_argument("--no-digest", action="store_true", help="skip the data's digest, which reads all data once")
    group.add_argument("--overhead", action="store_true", help="compare the time with that of the forward passes alone")


def _check(args: argparse.Namespace) -> None:
    if args.agree_with and (args.labels or args.classes):
        raise ValueError("--agree-with takes its labels from a model: leave out --labels and --classes")
    if args.paper and args.pairs:
        raise ValueError(f"--paper draws {PAPER_PAIRS} pairs of crops, like the published script: leave out --pairs")


def preprocessing_flags(args: argparse.Namespace) -> dict[str, Any]:
    """The stated preprocessing; what is not stated comes with the weights."""
    names = ("mean", "std", "interpolation", "crop_pct", "resize", "crop")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}
