"""Averages the weights of several runs of one network, tensor by tensor.

    python scripts/average.py efficientnet_lite0:lpf4:FILE efficientnet_lite0:lpf4:FILE --out runs/mean

Runs from one start often end so close that their mean is better than each of them (Wortsman et al., "Model soups",
2022). The mean gets the first file's name, up to the digest, and its record without metrics, with the commands of all.
Measure it with scripts/evaluate.py.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from running import run_script
from torch import Tensor, nn

from antialiased_zoo.evaluation import load_named
from antialiased_zoo.evaluation.modelspec import parse_spec
from antialiased_zoo.training import RunFolder, manifest_entry, versions
from antialiased_zoo.weights.checkpoints import read_contents
from antialiased_zoo.zoo import fingerprint_of


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="NAME:FILTER:FILE or timm:NAME:FILTER:FILE")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights and their record")
    options = parser.parse_args(arguments)
    own = shlex.join(["python", "scripts/average.py", *(sys.argv[1:] if arguments is None else arguments)])
    print(f"weights: {average(options.models, options.out, own)}")


def average(models: Sequence[str], out: Path, own: str) -> Path:
    """Write the mean of the models' weights, and its record.

    Args:
        models: Specs of the models, each with a file that states its network.
        out: The folder.
        own: The command, for the record.

    Returns:
        The path of the weights.

    Raises:
        ValueError: If there are fewer than two models, they are not the same network for the same classes and
            preprocessing, or a file does not state it.
    """
    if len(models) < 2:
        raise ValueError(f"need two models or more, got {len(models)}")
    files = [Path(parse_spec(text).request.weights) for text in models]
    configs = [read_contents(file).config for file in files]
    config = configs[0]
    if config is None or None in configs:
        raise ValueError("each file must state its network, like those of adapt, train.py and save_pretrained")
    networks = [load_named(text).model for text in models]
    model = networks[0]
    for text, other, stated in zip(models, networks, configs, strict=True):
        if _structure(other) != _structure(model):
            raise ValueError(f"{text} is not the network of {models[0]}")
        for name in ("classes", "preprocessing"):
            if getattr(stated, name) != getattr(config, name):
                raise ValueError(f"{text} has other {name} than {models[0]}: their mean would answer for neither")
    model.load_state_dict(mean([other.state_dict() for other in networks]))
    # The metrics that a file or a record states are those of its own run.
    facts = {"num_classes": config.num_classes, "classes": config.classes, "dataset": config.dataset, "metrics": {}}
    run, stem = RunFolder(out), files[0].stem.rpartition("-")[0] or files[0].stem
    path = run.save_weights(model.state_dict(), stem, config.preprocessing, **facts)
    beside = [file.with_suffix(".json") for file in files]
    records = [json.loads(file.read_text(encoding="utf-8")) for file in beside if file.exists()]
    entries = [record.get("entry", record) for record in records]
    command = " && ".join([*(entry["command"] for entry in entries if "command" in entry), own])
    stated = {name: value for name, value in (entries[0] if entries else {}).items() if name != "metrics"}
    entry = manifest_entry(path, {**stated, "command": command})
    run.save_record({"entry": entry, "made_from": [file.name for file in files], "versions": versions()}, path)
    return path


def _structure(model: nn.Module) -> tuple[str, dict[str, torch.Size]]:
    return fingerprint_of(model), {name: tensor.shape for name, tensor in model.state_dict().items()}


def mean(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor, computed in float64; integers, such as numbers of batches, are the first's."""
    first = states[0]
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in first.items()
    }


if __name__ == "__main__":
    run_script(main)
