"""The command ``adapt``: antialias, recalibrate, distill, measure, write."""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import islice
from typing import Any

import torch
from torch import nn

from ..adaptation import MIXED, STRONG, Augmentation, RandomCrops, distill, recalibrate
from ..evaluation import (
    CorruptImageError,
    ImageFiles,
    NamedModel,
    Options,
    PhotoBatches,
    count_outputs,
    load_named,
    open_images,
    split_label,
)
from ..layers import Blurred
from ..training import Execution, RunFolder, launcher, processes
from ..transform import antialias
from ..weights import Preprocessing, manifest
from ..zoo import ARCHITECTURES
from .adapt_files import draw, write
from .adapt_measures import measure

# Number of photos held out of training: the weights are chosen by the divergence on them.
_HELD_OUT = 64


def adapt(options: argparse.Namespace) -> str:
    """Adapt a network, measure it, and write the files.

    Returns:
        The card's table and the path of the weights, in the first process; "" in others.

    Raises:
        ValueError: If an option or a file is invalid.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    photos = open_images(options.images, labelled=False)
    held_out = _held_out(photos)
    files, indices = photos, held_out
    if options.evaluate:
        files = open_images(options.evaluate, labelled=False)
        indices = list(range(len(files)))
        _require_decodable(files, indices)
    with processes(options.device) as (device, rank, world):
        amp, progress = torch.bfloat16 if options.amp else None, not options.quiet
        how = Execution(device, amp, rank=rank, world=world, checkpoint_every=50, progress=progress)
        named = _load(options.model, progress)
        check_plain(named.model, options.model)
        preprocessing = named.preprocessing or Preprocessing()
        stages = _stages(named, options, photos, held_out, preprocessing, how)
        batches = PhotoBatches(files, indices, preprocessing)
        batch = 8 if device.type == "cpu" else 32  # on a CPU, so that maps are blocks of memory that glibc keeps
        found = measure(stages, batches, Options(device, batch, progress=how.first and progress))
        if not how.first:
            return ""
        data = {"images": len(photos), "held_out": len(held_out), "measured": found.images}
        data["skipped"] = len(found.skipped)
        for _, error in found.skipped:
            print(f"skipped: {error}", file=sys.stderr)
        entry = _entry(named, stages["after"], options, preprocessing, device)
        text = write(options.out, stages, found, entry, data, preprocessing)
        for index in reversed(held_out):
            with suppress(CorruptImageError):
                draw(stages, photos.image(index), preprocessing, options.out / "shifts.png")
                break
        return text


def _held_out(photos: ImageFiles) -> list[int]:
    """Photos at equal distances in the order of their names: the last ones would be of one class folder.

    Raises:
        ValueError: If there are too few photos, or none that is held out can be decoded.
    """
    if len(photos) <= _HELD_OUT:
        raise ValueError(f"{photos.source} has {len(photos)} photos; give more than {_HELD_OUT}, which are held out")
    chosen = [(2 * place + 1) * len(photos) // (2 * _HELD_OUT) for place in range(_HELD_OUT)]
    _require_decodable(photos, chosen)
    return chosen


def _require_decodable(photos: ImageFiles, indices: Sequence[int]) -> None:
    """Refuse before the work what could not be measured after it.

    Raises:
        CorruptImageError: If none of the photos can be decoded; the error is that of the last one.
    """
    for index in indices:
        try:
            photos.image(index)
            return
        except CorruptImageError as error:
            last = error
    raise last


def _load(spec: str, progress: bool) -> NamedModel:
    """The network of a spec; for a NAME of the zoo, the baseline that ``pretrained=True`` uses."""
    if spec in ARCHITECTURES:
        own = [entry.recipe for entry in manifest.load().of_model(spec) if entry.filter_size is None and entry.default]
        spec = f"{spec}:baseline:{own[0] if own else 'torchvision'}"
    return load_named(spec, progress=progress)


def check_plain(model: nn.Module, spec: str) -> None:
    """Refuse a network that has blurs already: they would stay, under the name of another filter.

    Raises:
        ValueError: If it has.
    """
    found = [name for name, module in model.named_modules() if isinstance(module, Blurred)]
    if found:
        raise ValueError(
            f"{spec} is antialiased already ({found[0]} blurs): give the network that it was made from, such as "
            "NAME:baseline; adapt trains a copy further with --start COPY"
        )


def _name(spec: str) -> str:
    """The network's name in a spec."""
    source, _, rest = split_label(spec)[1].partition(":")
    return rest.partition(":")[0] if source in ("timm", "torchvision", "hf-hub") else source


def _stages(
    named: NamedModel,
    options: argparse.Namespace,
    photos: ImageFiles,
    held_out: Sequence[int],
    preprocessing: Preprocessing,
    how: Execution,
) -> dict[str, nn.Module]:
    """The network before antialiasing, the start of distillation, and the result."""
    size = options.size or preprocessing.crop
    reach = (8 if size >= 160 else 2) if options.reach is None else options.reach
    smallest, augmentation = (0.4, STRONG) if preprocessing.crop >= 160 else (0.8, MIXED)
    architecture = ARCHITECTURES.get(_name(options.model))
    # Without a published structure, the one that displaces the maps least.
    structure = architecture.structure if architecture else {"downsampler": "alternating"}
    settings = _settings(options, photos, preprocessing, size)
    settings |= {"structure": dict(structure), "smallest": smallest, **asdict(augmentation)}
    # A resumed run must hold out the same photos: those that it was trained on must not choose its weights.
    numbers = hashlib.sha256(str(held_out).encode()).hexdigest()
    settings["held_out_photos"] = f"{len(held_out)} (digest {numbers[:16]})"
    own = _own_settings(options, reach)
    RunFolder(options.out).check(settings | own | {"world": how.world, "amp": str(how.amp)})  # before the work
    training = sorted(set(range(len(photos))).difference(held_out))
    batch, seed = options.batch_size, options.seed
    workers = _workers(options, how.device)
    shared = {"rank": how.rank, "world": how.world, "workers": workers}
    crops = RandomCrops(
        photos, training, preprocessing, size + 2 * reach, batch, smallest, augmentation, seed=seed, **shared
    )
    teacher = named.model.to(how.device)
    antialiased = antialias(teacher, options.filter_size, **structure)
    count_outputs(named.label, antialiased, size, Options(how.device))  # refuses a size that is too small
    _try_step(antialiased, teacher, size + 2 * reach, reach, options.layers, how)
    # Norms are measured on images as the network will see them: nearly whole photos, at its own size.
    whole = RandomCrops(photos, training, preprocessing, size, batch, 0.8, Augmentation(), seed, workers=workers)
    starts = _starts(antialiased, whole, options, how)
    student = copy.deepcopy([*starts.values()][-1])
    distill(
        *(student, teacher, crops),
        **own,
        held_out=PhotoBatches(photos, held_out[how.rank :: how.world], preprocessing),
        folder=options.out,
        identity=settings,
        execution=how,
        report=lambda entry: print(json.dumps(entry), file=sys.stderr),
    )
    return {"before": teacher, **starts, "after": student}


def _workers(options: argparse.Namespace, device: torch.device) -> int:
    """A GPU would wait for one process that loads photos; on a CPU the network takes nearly all of the time."""
    if options.workers is not None:
        return int(options.workers)
    return min(8, os.cpu_count() or 1) if device.type == "cuda" else 0


def _try_step(
    antialiased: nn.Module, teacher: nn.Module, size: int, reach: int, layers: Sequence[str] | None, how: Execution
) -> None:
    """Take one step on noise with a copy, which refuses before the work what the networks cannot do.

    Raises:
        ValueError: If a layer does not exist or has no maps, or the images are too small for the shifts.
    """
    noise = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    alone = replace(how, rank=0, world=1, progress=False)
    distill(copy.deepcopy(antialiased), teacher, [noise], steps=1, layers=layers, reach=reach, execution=alone)


def _starts(
    antialiased: nn.Module, whole: RandomCrops, options: argparse.Namespace, how: Execution
) -> dict[str, nn.Module]:
    """The networks before distillation, which starts from the last: ``--start``, or a recalibrated copy."""
    if options.start:
        return {"start": _started(antialiased, options)}
    return {"antialiased": antialiased, "recalibrated": _recalibrated(antialiased, whole, how)}


def _recalibrated(antialiased: nn.Module, crops: RandomCrops, how: Execution) -> nn.Module:
    """A copy with batch-norm statistics of about a thousand crops."""
    batches = islice(crops, 1024 // crops.batch + 1)
    return recalibrate(copy.deepcopy(antialiased), batches, progress=how.first and how.progress)


def _started(antialiased: nn.Module, options: argparse.Namespace) -> nn.Module:
    """A copy with the tensors of ``--start``, unchanged: its statistics are those that it was trained with."""
    student = copy.deepcopy(antialiased)
    tensors = load_named(options.start, progress=not options.quiet).model.state_dict()
    try:
        student.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"--start {options.start} is not a copy of {options.model}: {error}") from None
    return student


def _settings(
    options: argparse.Namespace, photos: ImageFiles, preprocessing: Preprocessing, size: int
) -> dict[str, Any]:
    """The settings that a checkpoint must match for a run to resume, besides those that `distill` compares."""
    named = {name: getattr(options, name) for name in ("model", "start", "filter_size", "batch_size")}
    images = f"{options.images.name} ({len(photos)} photos, digest {photos.quick_digest()[:16]})"
    return {**named, "images": images, "size": size, "preprocessing": asdict(preprocessing)}


def _own_settings(options: argparse.Namespace, reach: int) -> dict[str, Any]:
    """The settings that `distill` takes and compares."""
    named = {name: getattr(options, name) for name in ("steps", "lr", "layers", "circular", "seed", "ema")}
    return {**named, "reach": reach, "check_every": max(1, min(50, options.steps // 10))}


def _entry(
    named: NamedModel,
    student: nn.Module,
    options: argparse.Namespace,
    preprocessing: Preprocessing,
    device: torch.device,
) -> dict[str, Any]:
    """The manifest entry, without the file's name, size and digest."""
    outputs = count_outputs(named.label, student, preprocessing.crop, Options(device))
    start = launcher()
    program = [*start, "-m", "antialiased_zoo"] if start else ["antialiased-zoo"]
    return {
        "model": "".join(c if c.isalnum() else "_" for c in _name(options.model)),
        "filter_size": options.filter_size,
        "recipe": "distilled",
        "dataset": f"{options.images.name} (no labels)",
        "num_classes": outputs,
        # ImageNet has duplicate names; its classes need not be listed.
        "classes": list(named.classes) if named.classes and len(set(named.classes)) == outputs else None,
        "preprocessing": asdict(preprocessing),
        "command": shlex.join([*program, *options.argv]),
    }
