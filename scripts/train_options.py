"""The options of scripts/train.py, and the recipe and the way of running that they describe."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import os
from pathlib import Path
from typing import Any, get_args

import torch

from antialiased_zoo.cli import numbers
from antialiased_zoo.training.execution import Execution
from antialiased_zoo.training.recipes import PRESETS, Augment, Recipe, Schedule

# The names of the same settings in timm's and torchvision's reference scripts.
SAME_AS = {
    "eval_resize": ["--val-resize-size"],
    "eval_crop": ["--val-crop-size"],
    "weight_decay": ["--wd"],
    "label_smoothing": ["--smoothing"],
    "ema": ["--model-ema-decay"],
}
AMP = {"none": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def parse(argv: list[str], description: str | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model", help="a network of the zoo (mobilenet_v2), timm:NAME, torchvision:NAME, hf-hub:NAME or MODULE:CALLABLE"
    )
    parser.add_argument("--filter-size", type=filter_size, required=True, help="1 to 7, or none for the baseline")
    parser.add_argument(
        "--data", "--data-dir", "--data-path", type=Path, required=True, help="folder or zip with train/ and val/"
    )
    parser.add_argument(
        "--out",
        "--output",
        "--output-dir",
        type=Path,
        required=True,
        help="the run's folder; resumed if it has a checkpoint",
    )
    parser.add_argument("--preset", choices=PRESETS, required=True, help="the recipe")
    parser.add_argument("--recipe", help="the recipe's name in the manifest (default: the preset's)")
    parser.add_argument("--seed", type=numbers.natural, default=0)
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--init",
        "--initial-checkpoint",
        metavar="WEIGHTS",
        help="fine-tune from a file, a recipe, torchvision's, a tag",
    )
    start.add_argument("--pretrained", action="store_true", help="fine-tune from the source's default weights")
    parser.add_argument(
        *("--model-args", "--model-kwargs"),
        nargs="*",
        type=name_value,
        default=[],
        metavar="NAME=VALUE",
        help="for the network's builder",
    )
    parser.add_argument("--license", default="MIT", help="licence of the weights, for the manifest")
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard events to the run's folder")
    _add_execution(parser.add_argument_group("execution"))
    _add_normalisation(parser.add_argument_group("normalisation; default: as the network states"))
    _add_recipe(parser.add_argument_group("settings of the preset to change"))
    return parser.parse_args(argv)


def _add_execution(group: Any) -> None:
    group.add_argument("--device", default="auto", help="auto, cpu, cuda ...")
    group.add_argument("--threads", type=numbers.positive, help="CPU threads (default: all cores)")
    group.add_argument(
        *("--workers", "-j"),
        type=numbers.natural,
        default=min(8, os.cpu_count() or 1),
        help="worker processes for decoding",
    )
    group.add_argument(
        "--amp", "--amp-dtype", nargs="?", const="float16", choices=AMP, default="none", help="mixed precision"
    )
    group.add_argument("--channels-last", action=argparse.BooleanOptionalAction, default=True)
    group.add_argument("--compile", "--torchcompile", action="store_true", help="use torch.compile")
    group.add_argument(
        "--accumulate",
        type=numbers.positive,
        default=1,
        metavar="PARTS",
        help="number of parts in which a batch is computed",
    )
    group.add_argument("--checkpoint-every", type=numbers.positive, default=200, metavar="STEPS")
    group.add_argument("--progress", action=argparse.BooleanOptionalAction, default=True)


def _add_normalisation(group: Any) -> None:
    group.add_argument("--mean", type=float, nargs=3, help="mean of each channel, for pixels in 0..1")
    group.add_argument(
        "--std", type=numbers.above_zero, nargs=3, help="standard deviation of each channel, for pixels in 0..1"
    )
    group.add_argument(
        "--interpolation", choices=("nearest", "bilinear", "bicubic"), help="interpolation of validation images"
    )


def _add_recipe(group: Any) -> None:
    group.add_argument(
        "--epochs", type=numbers.positive, help="the preset's image sizes are scaled to this many epochs"
    )
    group.add_argument("--sizes", type=sizes, metavar="SIZExEPOCHS,...", help="for example 40x7,48x5,64x5")
    group.add_argument("--augment", choices=get_args(Augment))
    group.add_argument("--schedule", choices=get_args(Schedule))
    for name in ("nesterov", "decay_norms"):
        group.add_argument(_flag(name), action=argparse.BooleanOptionalAction)
    for name in ("eval_resize", "eval_crop", "eval_every", "batch_size"):
        group.add_argument(_flag(name), *SAME_AS.get(name, ()), type=numbers.positive)
    for name in ("cutout", "warmup", "momentum", "label_smoothing", "ema"):
        group.add_argument(_flag(name), *SAME_AS.get(name, ()), type=numbers.below_one)
    group.add_argument("--lr", type=numbers.above_zero)
    group.add_argument("--weight-decay", *SAME_AS["weight_decay"], type=numbers.not_negative)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def filter_size(text: str) -> int | None:
    return None if text == "none" else numbers.filter_size(text)


def sizes(text: str) -> tuple[tuple[int, int], ...]:
    pairs = [[numbers.positive(number) for number in part.split("x")] for part in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise argparse.ArgumentTypeError(f"expected SIZExEPOCHS, such as 40x7,48x5, got {text!r}")
    return tuple((size, epochs) for size, epochs in pairs)


def name_value(text: str) -> tuple[str, Any]:
    name, value = text.split("=", 1)
    return name, ast.literal_eval(value)


def recipe_of(args: argparse.Namespace) -> Recipe:
    names = [field.name for field in dataclasses.fields(Recipe)]
    given = {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}
    if args.epochs and args.sizes:
        raise ValueError("--sizes determines the number of epochs: give only one of --sizes and --epochs")
    recipe = dataclasses.replace(PRESETS[args.preset], **given)
    return recipe.with_epochs(args.epochs) if args.epochs else recipe


def execution_of(args: argparse.Namespace, device: torch.device, rank: int, world: int) -> Execution:
    return Execution(
        device=device,
        amp=AMP[args.amp],
        channels_last=args.channels_last,
        compile=args.compile,
        accumulate=args.accumulate,
        rank=rank,
        world=world,
        checkpoint_every=args.checkpoint_every,
        progress=args.progress,
    )
