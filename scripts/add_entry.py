"""Adds a weights file of this project to the manifest, after checking it.

    python scripts/add_entry.py antialiased_zoo/weights/packaged/NAME.safetensors [NAME.json]

The JSON (by default the record that scripts/train.py writes next to the weights) states the fields of the entry: model,
filter_size, recipe, dataset, num_classes, classes, preprocessing, metrics, command, license, at its top level or under
"entry". File name, format, digest and size are computed. The weights must fit the network, and the entry the manifest;
the manifest is then replaced atomically.
"""

from __future__ import annotations

import argparse
import json
import os
import reprlib
from pathlib import Path
from typing import Any

import torch
from running import run_script
from torch import nn

from antialiased_zoo.weights import manifest, replacing
from antialiased_zoo.weights.checkpoints.loading import read_state
from antialiased_zoo.weights.entry import Entry
from antialiased_zoo.weights.hub.digest import sha256
from antialiased_zoo.zoo import find_architecture

# The fields of the training's JSON that an entry has; others (losses, times) are ignored.
FIELDS = (
    *("model", "filter_size", "recipe", "default", "dataset", "num_classes", "classes", "structure"),
    *("preprocessing", "metrics", "license", "citation", "command"),
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="a .safetensors file in antialiased_zoo/weights/packaged")
    parser.add_argument("facts", type=Path, nargs="?", help="the training's JSON")
    parser.add_argument("--manifest", type=Path, default=manifest.own_path())
    parser.add_argument("--source", help="source of the file for others; default: the package")
    parser.add_argument("--replace", action="store_true", help="replace an entry with the same name")
    options = parser.parse_args(arguments)
    facts = json.loads((options.facts or options.weights.with_suffix(".json")).read_text(encoding="utf-8"))
    entry = add_entry(options.weights, facts, options.manifest, source=options.source, replace=options.replace)
    print(f"{entry.name}: {entry.file}, SHA-256 {entry.files[0].sha256}")


def add_entry(
    weights: Path, facts: dict[str, Any], path: Path, *, source: str | None = None, replace: bool = False
) -> Entry:
    """Check a weights file and its facts, and add its entry to the manifest at ``path``.

    Raises:
        ManifestError: The facts break a rule of the manifest, or the entry exists already.
        CheckpointError: The weights do not fit the stated network.
        ValueError: The record is of another file.
    """
    record = record_of(weights, facts, source)
    content = json.loads(path.read_text(encoding="utf-8"))
    key = tuple(record[name] for name in ("model", "filter_size", "recipe"))
    if replace:
        content["entries"] = [e for e in content["entries"] if (e["model"], e["filter_size"], e["recipe"]) != key]
    content["entries"].append(record)
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    entry = manifest.parse(text, str(path)).find(*key)
    read_state(weights, _network(entry).state_dict())
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return entry


def record_of(weights: Path, facts: dict[str, Any], source: str | None) -> dict[str, Any]:
    """Return the manifest's record: the stated facts, and those computed from the file."""
    with weights.open("rb", buffering=0) as file:
        digest = sha256(file)
    facts = facts.get("entry", facts) if isinstance(facts, dict) else facts
    if not isinstance(facts, dict):
        raise ValueError(f"the record of {weights} is not a JSON object: {reprlib.repr(facts)}")
    if facts.get("sha256", digest) != digest:
        raise ValueError(f"{weights} has the SHA-256 {digest}; the record is of a file with {facts['sha256']}")
    record = {name: facts[name] for name in FIELDS if name in facts}
    for name in ("model", "filter_size", "recipe"):
        if name not in record:
            raise ValueError(f"the record of {weights} does not state {name!r}")
    return {
        **record,
        "file": weights.name,
        "format": "safetensors" if weights.suffix == ".safetensors" else "pickle",
        "sha256": digest,
        "size": os.path.getsize(weights),
        "sources": [source or f"package:{weights.name}"],
    }


def _network(entry: Entry) -> nn.Module:
    """Build the plain network on the meta device: the transform does not change any name or shape."""
    with torch.device("meta"):
        return find_architecture(entry.model).build(entry.num_classes)


if __name__ == "__main__":
    run_script(main)
