"""Train any network, antialiased or not, on a folder or zip of images.

    python scripts/train.py mobilenet_v2 --filter-size 4 --preset cifar10 --data cifar10.zip --out runs/lpf4
    python scripts/train.py timm:regnety_004 --filter-size 3 --preset imagenet-resnet --epochs 30 --data imagenet ...
    torchrun --nproc-per-node 8 scripts/train.py resnet50 --preset imagenet-resnet --amp bfloat16 ...

The same command resumes an interrupted run from its last checkpoint. scripts/README.md says more.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from running import run_script
from torch import nn
from tqdm.auto import tqdm
from train_options import execution_of, parse, recipe_of

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
from antialiased_zoo.training.recipes import Recipe
from antialiased_zoo.training.runs import RunFolder, load_weights, manifest_entry, tensors_digest, versions
from antialiased_zoo.training.settings import State
from antialiased_zoo.weights import Preprocessing
from antialiased_zoo.zoo import ARCHITECTURES


def open_data(path: Path) -> tuple[ImageFiles, ImageFiles]:
    train, val = open_images(path / "train"), open_images(path / "val")
    if len(train.classes) < 2:
        raise ValueError(f"{path}/train has one class, {train.classes[0]}; expected a folder for each of two or more")
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
            raise ImportError("--tensorboard needs a package: pip install tensorboard") from error
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
        return json.loads(record.read_text(encoding="utf-8"))["entry"]["command"] + " && " + this
    return this


def train(args: argparse.Namespace, how: Execution, argv: list[str]) -> None:
    recipe = recipe_of(args)
    train_files, val_files = open_data(args.data)
    epoch_order(len(train_files), recipe.batch_size, 0, how.rank, how.world)  # before the work: is there a batch?
    run = RunFolder(args.out)
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
    measured = len(val) - len(val.broken)  # by now, this process has seen all of them
    bars = trainer.how.hide_bars
    record = {
        "entry": manifest_entry(weights, facts),
        **trainer.identity,
        "data": {"train": train_files.digest(bars), "val": val.images.digest(bars)},
        "val_images": measured,
        "versions": versions(),
        "seconds": round(trainer.seconds, 1),
        "log": trainer.log,
    }
    path = trainer.run.save_record(record, weights)
    print(f"top-1 {accuracy:.2f}% on {measured} images; wrote {weights} and {path}")


def main(argv: list[str]) -> None:
    args = parse(argv, __doc__)
    if args.threads:
        torch.set_num_threads(args.threads)
    # Denormal floats slow a CPU down a hundredfold and do not matter here.
    torch.set_flush_denormal(True)
    with processes(args.device) as place:
        train(args, execution_of(args, *place), argv)


if __name__ == "__main__":
    run_script(main, sys.argv[1:])
