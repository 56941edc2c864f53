"""Quantise the packaged networks to eight bits in several ways, and measure their accuracy and consistency.

    python scripts/deploy_int8.py --cifar10 cifar10.zip --photos photos400.zip --calibration-photos other_photos.zip

It needs `pip install antialiased-zoo[export]` and torchao. Each network's rows are written to results/deploy/int8.json
as soon as they are measured, and are measured again on the same images with the same torch only with --again.
`deploy_checks.py --page` writes the table of docs/deploy.md.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from deploy_checks import INT8, read, states
from deploy_quantise import WAYS, Network
from running import run_script
from torch import Tensor

from antialiased_zoo.cli.numbers import positive
from antialiased_zoo.evaluation import (
    Accuracy,
    Consistency,
    Evaluation,
    LabelledImages,
    Options,
    Probe,
    ShiftProtocol,
    evaluate,
    open_data,
    prepare,
)
from antialiased_zoo.evaluation.robustness import Predictions
from antialiased_zoo.metrics import Meter
from antialiased_zoo.training import write_json

NETWORKS = (
    *("mobilenet_v2:baseline:cifar10", "mobilenet_v2:lpf4:cifar10"),
    *("efficientnet_lite0:baseline:imagenet", "efficientnet_lite0:lpf4:distilled"),
)
_CALIBRATION = 32  # images


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = _parse(arguments)
    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = list(read(args.record))
    for spec in args.networks:
        _check_data(spec, args)
    for spec in args.networks:
        images, others = _data(spec, args)
        facts = {
            "torch": torch.__version__,
            **{name: version(name) for name in ("onnxruntime", "torchao")},
            "data": images.quick_digest()[:8],
            "calibration": others.quick_digest()[:8],
        }
        known = {row["way"] for row in rows if row["network"] == spec and states(row, facts)}
        if args.again or not known.issuperset(args.ways):  # they are compared with each other
            rows = [row for row in rows if row["network"] != spec]
            rows += [row | facts for row in _measure(spec, images, others, args.ways)]
            write_json(args.record, rows)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), help="default: %(default)s")
    parser.add_argument("--cifar10", help="an image folder or a zip with train and val, for the networks of CIFAR-10")
    parser.add_argument("--photos", help="an image folder or a zip with ImageNet's classes, for the others")
    parser.add_argument("--calibration-photos", help="other photos, whose classes do not matter")
    parser.add_argument("--limit", type=positive, default=1000, help="images, evenly spaced; default: %(default)s")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--record", type=Path, default=INT8)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--again", action="store_true", help="also measure what the record already holds")
    return parser.parse_args(arguments)


def _check_data(spec: str, args: argparse.Namespace) -> None:
    """Refuse before the work a network whose images are not named.

    Raises:
        ValueError: If an option is missing.
    """
    needed = ["cifar10"] if spec.endswith("cifar10") else ["photos", "calibration_photos"]
    if missing := [f"--{name.replace('_', '-')}" for name in needed if not getattr(args, name)]:
        raise ValueError(f"{spec} needs {' and '.join(missing)}; or name other --networks")


def _data(spec: str, args: argparse.Namespace) -> tuple[LabelledImages, LabelledImages]:
    """Images to measure on, and other images to calibrate on."""
    of_cifar = spec.endswith("cifar10")
    images = open_data(f"{args.cifar10}/val" if of_cifar else args.photos)
    others = open_data(f"{args.cifar10}/train" if of_cifar else args.calibration_photos, labelled=False)
    images.thin_out(args.limit)
    others.thin_out(_CALIBRATION)
    return images, others


def _measure(spec: str, images: LabelledImages, others: LabelledImages, ways: Sequence[str]) -> list[dict[str, Any]]:
    options = Options(batch_size=25)
    subject = prepare(spec, options, len(images.classes) if spec.endswith("cifar10") else None)
    seen = _calibration(others, subject.protocol)
    models = {way: _hidden(WAYS[way](copy.deepcopy(subject.named.model).eval(), seen)) for way in ways}
    index = subject.match(images.classes).index
    found = evaluate(models, images, _probes, subject.protocol, options, dict.fromkeys(models, index))
    return [{"network": spec, "way": way, "images": found.images, **_figures(found, way, ways[0])} for way in models]


def _figures(found: Evaluation, way: str, reference: str) -> dict[str, Any]:
    meters = {name: meter for probe in found.probes[way].values() for name, meter in probe.meters.items()}
    same = Meter()
    own, other = (found.probes[label]["answers"].rows[:, 1] for label in (way, reference))
    same.update(own == other)
    chosen = {"top1": meters["top1"], "crop_consistency": meters["crop_consistency"], "same": same}
    return {name: meter.figure().times(100).as_dict() for name, meter in chosen.items()}


def _calibration(images: LabelledImages, protocol: ShiftProtocol) -> Tensor:
    transform = protocol.preprocessing.build()
    return torch.stack([transform(images[index][0]) for index in range(len(images))])


def _hidden(network: Network) -> Network:
    """A plain function: an exported program refuses ``eval()``."""
    return lambda x: network(x)


def _probes() -> dict[str, Probe]:
    return {"accuracy": Accuracy(), "crop": Consistency("crop"), "answers": Predictions()}


if __name__ == "__main__":
    run_script(main)
