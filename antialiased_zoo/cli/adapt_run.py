"""The command ``adapt``: antialias, recalibrate, distill, measure, write."""

from __future__ import annotations

import argparse
import copy
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..adaptation import RandomCrops, distill, recalibrate
from ..evaluation import (
    Accuracy,
    Consistency,
    Diagonal,
    Evaluation,
    ImageFiles,
    NamedModel,
    Probe,
    ShiftProtocol,
    count_outputs,
    evaluate,
    load_named,
    open_images,
    protocol_for,
    shift_curves,
)
from ..evaluation import Options as EvaluationOptions
from ..metrics import diagonal_stability
from ..training import Execution, RunFolder, manifest_entry, processes, versions
from ..transform import antialias
from ..weights import Preprocessing, manifest
from ..zoo import ARCHITECTURES

# Number of photos, the last ones, held out of training: the weights are chosen by the divergence on them.
_HELD_OUT = 64
_MEASURES = ("agreement", "crop_consistency", "circular_consistency", "wobble")


def adapt(options: argparse.Namespace) -> str:
    """Adapt a network, measure it, write the files, and return the card's table.

    Raises:
        ValueError: If an option or a file is invalid.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    named = _load(options.model, not options.quiet)
    facts = named.preprocessing or Preprocessing()
    photos = open_images(options.images, labelled=False)
    if len(photos) <= _HELD_OUT:
        raise ValueError(f"{options.images} has {len(photos)} photos; give more than {_HELD_OUT}, which are held out")
    with processes(options.device) as (device, rank, world):
        how = Execution(device, torch.bfloat16 if options.amp else None, rank=rank, world=world, checkpoint_every=50)
        stages = _stages(named, options, photos, facts, how)
        found = _measure(stages, options, photos, facts, how)
        return _write(stages, found, named, options, facts, photos, how) if how.first else ""


def _load(spec: str, progress: bool) -> NamedModel:
    """The network of a spec; for a NAME of the zoo, the baseline that ``pretrained=True`` uses."""
    if spec in ARCHITECTURES:
        own = [entry.recipe for entry in manifest.load().of_model(spec) if entry.filter_size is None and entry.default]
        spec = f"{spec}:baseline:{own[0] if own else 'torchvision'}"
    return load_named(spec, progress=progress)


def _name(spec: str) -> str:
    """The network's name in a spec."""
    source, _, rest = spec.rpartition("=")[2].partition(":")
    return rest.partition(":")[0] if source in ("timm", "torchvision") else source


def _stages(
    named: NamedModel, options: argparse.Namespace, photos: ImageFiles, facts: Preprocessing, how: Execution
) -> dict[str, nn.Module]:
    """The network before antialiasing, the start of distillation, and the result.

    Distillation starts from ``--start``, unchanged, or else from the antialiased and recalibrated network.
    """
    size = options.size or facts.crop
    settings = _settings(options, photos, facts, size)
    RunFolder(options.out).check(settings)  # before the work
    reach = (8 if size >= 160 else 2) if options.reach is None else options.reach
    last = len(photos) - _HELD_OUT
    crops = RandomCrops(
        *(photos, range(last), facts, size + 2 * reach, options.batch_size),
        smallest=0.4 if facts.crop >= 160 else 0.8,
        seed=options.seed,
        rank=how.rank,
        world=how.world,
    )
    teacher = named.model.to(how.device)
    architecture = ARCHITECTURES.get(_name(options.model))
    antialiased = antialias(teacher, options.filter_size, **(architecture.structure if architecture else {}))
    if options.start:
        starts = {"start": _started(antialiased, options)}
    else:
        # Norms are measured on images as the network will see them: nearly whole photos, at its own size.
        own = RandomCrops(photos, range(last), facts, size, options.batch_size, 0.8, mixup=0, seed=options.seed)
        batches = _some(own, 1024 // options.batch_size + 1)
        recalibrated = recalibrate(copy.deepcopy(antialiased), batches, progress=how.first and not options.quiet)
        starts = {"antialiased": antialiased, "recalibrated": recalibrated}
    student = copy.deepcopy([*starts.values()][-1])
    distill(
        *(student, teacher, crops),
        steps=options.steps,
        lr=options.lr,
        layers=options.layers,
        reach=reach,
        circular=options.circular,
        seed=options.seed,
        ema=options.ema,
        held_out=_HeldOut(photos, range(last + how.rank, len(photos), how.world), facts),
        check_every=max(1, min(50, options.steps // 10)),
        folder=options.out,
        identity=settings,
        execution=how,
        report=lambda entry: print(json.dumps(entry), file=sys.stderr),
    )
    return {"before": teacher, **starts, "after": student}


def _settings(options: argparse.Namespace, photos: ImageFiles, facts: Preprocessing, size: int) -> dict[str, Any]:
    """The settings that a checkpoint must match for a run to resume, besides those that `distill` compares."""
    named = {name: getattr(options, name) for name in ("model", "start", "filter_size", "batch_size")}
    images = f"{options.images.name} ({len(photos)} photos, names {photos.names_digest()[:8]})"
    return {**named, "images": images, "size": size, "preprocessing": asdict(facts)}


def _started(antialiased: nn.Module, options: argparse.Namespace) -> nn.Module:
    """A copy for training, with the tensors of ``--start``."""
    student = copy.deepcopy(antialiased)
    tensors = load_named(options.start, progress=not options.quiet).model.state_dict()
    try:
        student.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"--start {options.start} is not a copy of {options.model}: {error}") from None
    return student


def _some(crops: RandomCrops, count: int) -> Iterator[Tensor]:
    return (batch for batch, _ in zip(crops, range(count), strict=False))


class _HeldOut:
    """Batches of photos with the network's preprocessing."""

    def __init__(self, photos: ImageFiles, indices: Sequence[int], facts: Preprocessing) -> None:
        self.photos, self.indices, self.transform = photos, indices, facts.build()

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, len(self.indices), 16):
            yield torch.stack([self.transform(self.photos.image(i)) for i in self.indices[start : start + 16]])


class _TeacherLabelled(torch.utils.data.Dataset[Any]):
    """Photos labelled with the teacher's predictions, so that accuracy is agreement with the teacher."""

    def __init__(self, photos: ImageFiles, indices: Sequence[int], answers: Sequence[int]) -> None:
        self.photos, self.indices, self.answers = photos, indices, answers

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        return self.photos.image(self.indices[place]), self.answers[place]


def _measure(
    stages: Mapping[str, nn.Module],
    options: argparse.Namespace,
    photos: ImageFiles,
    facts: Preprocessing,
    how: Execution,
) -> Evaluation:
    """Measure the agreement with the teacher, the consistency and the wobble of each stage."""
    seen = photos if options.evaluate is None else open_images(options.evaluate, labelled=False)
    indices = range(len(photos) - _HELD_OUT if seen is photos else 0, len(seen))
    with torch.inference_mode():
        teacher = stages["before"].eval()
        answers = torch.cat([teacher(x.to(how.device)) for x in _HeldOut(seen, indices, facts)])
    same = dict.fromkeys(stages, range(answers.shape[1]))  # the data's classes are the network's outputs

    def probes() -> dict[str, Probe]:
        kinds = {kind: Consistency(kind) for kind in ("crop", "circular")}
        return {"agreement": Accuracy(), **kinds, "diagonal": Diagonal()}

    data = _TeacherLabelled(seen, indices, answers.argmax(1).tolist())
    wanted = EvaluationOptions(how.device, 32, progress=how.first and not options.quiet)
    return evaluate(stages, data, probes, _protocol(facts), wanted, same)


def _protocol(facts: Preprocessing) -> ShiftProtocol:
    """The weights' protocol, with room for shifts: some of torchvision's weights resize to 232 for a crop of 224."""
    if facts.crop < facts.resize < facts.crop + 32:
        facts = replace(facts, resize=facts.crop + 32)
    return protocol_for(facts)


def _write(
    stages: Mapping[str, nn.Module],
    found: Evaluation,
    named: NamedModel,
    options: argparse.Namespace,
    facts: Preprocessing,
    photos: ImageFiles,
    how: Execution,
) -> str:
    """Write weights, record, card and picture; returns the card's table."""
    folder, name = RunFolder(options.out), "".join(c if c.isalnum() else "_" for c in _name(options.model))
    file = folder.save_weights(stages["after"].state_dict(), f"{name}_lpf{options.filter_size}_distilled")
    command = shlex.join(["antialiased-zoo", "adapt", *sys.argv[2:]])
    figures = {stage: found.figures(stage) for stage in stages}
    changes = {s: {k: v.as_dict() for k, v in found.differences(s, "before").items()} for s in stages if s != "before"}
    outputs = count_outputs(named.label, stages["after"], facts.crop, EvaluationOptions(how.device))
    entry = manifest_entry(
        file,
        {
            "model": name,
            "filter_size": options.filter_size,
            "recipe": "distilled",
            "dataset": f"{options.images.name} (no labels)",
            "num_classes": outputs,
            # ImageNet has duplicate names; its classes need not be listed.
            "classes": list(named.classes) if named.classes and len(set(named.classes)) == outputs else None,
            "preprocessing": asdict(facts),
            "command": command,
        },
    )
    record = {"entry": entry, "figures": figures, "differences": changes, "versions": versions()}
    record["data"] = {"images": len(photos), "held_out": _HELD_OUT, "measured": found.images}
    folder.save_record(record, file)
    table = _table(figures, changes)
    card = f"# {name}, filter size {options.filter_size}, distilled without labels\n\n{table}\n\n`{command}`\n"
    (options.out / "card.md").write_text(card)
    _draw(stages, photos, facts, options.out / "shifts.png")
    return f"{table}\nweights: {file}"


def _table(figures: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    rows = ["| | " + " | ".join(_MEASURES) + " |", "| --- " * (len(_MEASURES) + 1) + "|"]
    for stage, of in figures.items():
        named = {**of, "agreement": of["top1"]}
        rows.append(f"| {stage} | " + " | ".join(f"{named[key]['value']:.2f}" for key in _MEASURES) + " |")
    rows.append("")
    for key in ("crop_consistency", "circular_consistency"):
        change = changes["after"][key]
        rows.append(f"* {key}, after - before: {change['value']:+.2f} [{change['low']:+.2f}, {change['high']:+.2f}]")
    return "\n".join(rows)


def _draw(stages: Mapping[str, nn.Module], photos: ImageFiles, facts: Preprocessing, path: Path) -> None:
    """Draw the curves of one held-out photo, if matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        return
    protocol = _protocol(facts)
    photo = photos.image(len(photos) - 1)
    device = next(stages["after"].parameters()).device
    canvas = protocol.padded(protocol.prepare(photo)[None]).to(device)
    shifts = protocol.diagonal_offsets
    before = diagonal_stability(stages["before"], canvas, None, protocol.size, shifts)
    top = int(before.prediction[0, len(shifts) // 2])
    after = diagonal_stability(stages["after"], canvas, top, protocol.size, shifts)
    curves = {label: (shifts, found.probability[0]) for label, found in (("before", before), ("after", after))}
    shift_curves(curves, photo=photo).savefig(path, dpi=120)
