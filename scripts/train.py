"""Train any network, antialiased or not, on a folder or zip of images.

    python scripts/train.py mobilenet_v2 --filter-size 4 --preset cifar10 --data cifar10.zip --out runs/lpf4
    python scripts/train.py timm:regnety_004 --filter-size 3 --preset imagenet-resnet --epochs 30 --data imagenet ...
    torchrun --nproc-per-node 8 scripts/train.py resnet50 --preset imagenet-resnet --amp bfloat16 ...

The same command resumes an interrupted run from its last checkpoint. scripts/README.md says more.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn
from tqdm.auto import tqdm

from antialiased_zoo.cli import numbers
from antialiased_zoo.errors import ZooError
from antialiased_zoo.evaluation import (
    ImageFiles,
    NamedModel,
    changed,
    count_outputs,
    described,
    new_model,
    open_images,
    torch_seed,
)
from antialiased_zoo.evaluation import Options as EvaluationOptions
from antialiased_zoo.training.batches import FileBatches, MemoryBatches, epoch_order
from antialiased_zoo.training.execution import Execution, launcher, processes
from antialiased_zoo.training.loop import TrainBatches, Trainer, top1
from antialiased_zoo.training.recipes import PRESETS, Augment, Recipe, Schedule
from antialiased_zoo.training.runs import RunFolder, State, load_weights, manifest_entry, tensors_digest, versions
from antialiased_zoo.weights import Preprocessing
from antialiased_zoo.zoo import ARCHITECTURES

# The names of the same settings in timm's and torchvision's reference scripts.
SAME_AS = {
    "eval_resize": ["--val-resize-size"],
    "eval_crop": ["--val-crop-size"],
    "weight_decay": ["--wd"],
    "label_smoothing": ["--smoothing"],
    "ema": ["--model-ema-decay"],
}
AMP = {"none": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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


def open_data(path: Path) -> tuple[ImageFiles, ImageFiles]:
    train, val = open_images(path / "train"), open_images(path / "val")
    if train.classes != val.classes:
        differing = sorted(set(train.classes) ^ set(val.classes))
        raise ValueError(f"{path}: train and val must have the same classes; only one has {', '.join(differing)}")
    return train, val


def build(args: argparse.Namespace, classes: int) -> NamedModel:
    # Every process starts from the same weights, even if other code has drawn random numbers.
    torch.manual_seed(torch_seed(args.seed))
    weights = args.init or ("" if args.pretrained else "none")
    if args.pretrained and args.model in ARCHITECTURES:
        weights = "torchvision"
    return new_model(args.model, classes, args.filter_size, weights, args.progress, **dict(args.model_args))


def preprocessing_of(named: NamedModel, recipe: Recipe, args: argparse.Namespace) -> Preprocessing:
    """The network's normalisation, at the recipe's sizes; prints it to the standard error."""
    flags = {name: getattr(args, name) for name in ("mean", "std", "interpolation") if getattr(args, name) is not None}
    stated = named.preprocessing or Preprocessing()
    facts = changed(
        dataclasses.replace(stated, test_resize=None, test_crop=None, resize=recipe.eval_resize, crop=recipe.eval_crop),
        **flags,
    )
    origin = ", ".join([named.stated_by or "ImageNet's", *(f"--{name}" for name in flags)])
    print(f"validation: {described(facts)} ({origin})", file=sys.stderr)
    return facts


def check_outputs(named: NamedModel, classes: int, size: int) -> None:
    outputs = count_outputs(named.label, named.model, size, EvaluationOptions())
    if outputs != classes:
        raise ValueError(
            f"{named.label} has {outputs} outputs, the data {classes} classes; let its callable take num_classes"
        )


def reporter(tensorboard: bool, folder: Path) -> Callable[[State], None]:
    """Print each epoch's entry, and write its figures for TensorBoard if requested."""
    writer = None
    if tensorboard:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise SystemExit("--tensorboard needs a package: pip install tensorboard") from error
        writer = SummaryWriter(folder)

    def report(entry: State) -> None:
        tqdm.write("  ".join(f"{name} {value}" for name, value in entry.items()))
        for name, value in entry.items():
            if writer and name != "epoch":
                writer.add_scalar(name, value, entry["epoch"])

    return report


def command(argv: list[str], init: str | None = None) -> str:
    """Return the command line, preceded by those that made the weights it starts from, if they are recorded."""
    this = shlex.join([*(launcher() or ["python"]), "scripts/train.py", *argv])
    record = Path(init).with_suffix(".json") if init else None
    if record and record.is_file():
        return json.loads(record.read_text())["entry"]["command"] + " && " + this
    return this


def train(args: argparse.Namespace, how: Execution, argv: list[str]) -> None:
    recipe = recipe_of(args)
    train_files, val_files = open_data(args.data)
    epoch_order(len(train_files), recipe.batch_size, 0, how.rank, how.world)  # before the work: is there a batch?
    named = build(args, len(train_files.classes))
    if named.remark and how.first:
        print(f"{args.init}: {named.remark}", file=sys.stderr)
    for size in dict.fromkeys([recipe.eval_crop, *(size for size, _ in recipe.sizes)]):
        check_outputs(named, len(train_files.classes), size)
    preprocessing = preprocessing_of(named, recipe, args)
    if recipe.augment == "pad-crop":
        images: TrainBatches = MemoryBatches(train_files, preprocessing, how.device, recipe.cutout, how.hide_bars)
    else:
        images = FileBatches(train_files, preprocessing, how.device, args.workers)
    val = FileBatches(val_files, preprocessing, how.device, args.workers)
    starts = args.init or args.pretrained
    identity = {
        "model": args.model,
        "filter_size": args.filter_size,
        "init": f"{args.init or 'pretrained'} {tensors_digest(named.model.state_dict())[:16]}" if starts else None,
        "preprocessing": json.loads(json.dumps(dataclasses.asdict(preprocessing))),
        "model_args": dict(args.model_args),
        "images": {"train": train_files.quick_digest(), "val": val_files.quick_digest()},
    }
    run = RunFolder(args.out)
    report = reporter(args.tensorboard, run.path) if how.first else None
    trainer = Trainer(named.model, recipe, images, val, run, identity, args.seed, how, report)
    result = trainer.fit()
    if how.first:
        finish(args, argv, trainer, result, train_files, val)


def finish(
    args: argparse.Namespace,
    argv: list[str],
    trainer: Trainer,
    result: nn.Module,
    train_files: ImageFiles,
    val: FileBatches,
) -> None:
    """Write the weights, measure the written file, and write its record next to it."""
    name = args.recipe or args.preset.replace("-", "_")
    filters = f"_lpf{args.filter_size}" if args.filter_size else ""
    weights = trainer.run.save_weights(
        result.state_dict(),
        f"{re.sub(r'[^A-Za-z0-9_.-]', '_', args.model)}{filters}_{name}",
        val.preprocessing,
        classes=tuple(train_files.classes),
        license=args.license,
        dataset=args.data.stem,
    )
    result.load_state_dict(load_weights(weights))
    accuracy = top1(result, val, dataclasses.replace(trainer.how, rank=0, world=1))
    facts = {
        "model": args.model,
        "filter_size": args.filter_size,
        "recipe": name,
        "license": args.license,
        "dataset": args.data.stem,
        "num_classes": len(train_files.classes),
        "classes": train_files.classes,
        "preprocessing": dataclasses.asdict(val.preprocessing),
        "metrics": {"acc1": round(accuracy, 2)},
        "command": command(argv, args.init),
    }
    bars = trainer.how.hide_bars
    record = {
        "entry": manifest_entry(weights, facts),
        **trainer.identity,
        "data": {"train": train_files.digest(bars), "val": val.images.digest(bars)},
        "val_images": len(val),
        "versions": versions(),
        "seconds": round(trainer.seconds, 1),
        "log": trainer.log,
    }
    path = trainer.run.save_record(record, weights)
    print(f"top-1 {accuracy:.2f}% on {len(val)} images; wrote {weights} and {path}")


def main(argv: list[str]) -> None:
    args = parse(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    # Denormal floats slow a CPU down a hundredfold and do not matter here.
    torch.set_flush_denormal(True)
    try:
        with processes(args.device) as place:
            train(args, execution_of(args, *place), argv)
    except (ZooError, ValueError, OSError, ImportError) as error:
        raise SystemExit(f"train.py: {error}") from error


if __name__ == "__main__":
    main(sys.argv[1:])
