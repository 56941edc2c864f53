"""Loading from a warm cache, and importing, each in a separate process."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

import antialiased_zoo as az

from .contest import OURS, Row, contest
from .peers import FLOOR, PEER, peer_network
from .processes import in_process, whole_process

_IMPORTS = {OURS: "import antialiased_zoo", "torch": "import torch", FLOOR: "import torchvision"}
# The imports, then the code that builds and loads.
_OURS = ("import antialiased_zoo as az, torch, torchvision", "m = az.create_model({name!r}, 4, 'bench')")
_PEER = (
    "import antialiased_cnns, torch",
    "m = antialiased_cnns.{name}(pretrained=False, filter_size=4)\n"
    "m.load_state_dict(torch.load({path!r}, weights_only=True)['state_dict'])",
)
_FLOOR = ("import torch, torchvision", "m = torchvision.models.get_model({name!r}, weights='IMAGENET1K_V1')")
_COLD = ("import antialiased_zoo as az, torch", _OURS[1])  # the package itself imports torchvision
_LOGITS = "\nwith torch.inference_mode():\n    m.eval()(torch.zeros(1, 3, 224, 224))"
_UNITS: tuple[tuple[Literal["time", "memory"], str], ...] = (("time", "ms"), ("memory", "MiB"))


def load(options: argparse.Namespace) -> Iterator[Row]:
    """Time and peak memory of building and loading, without imports; time of a cold process to its first logits."""
    turns = min(5, options.turns)
    for name in tqdm(options.networks, "load", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            environment, path = bench_weights(name, Path(folder))
            parts = {OURS: _OURS, PEER: _PEER} if peer_network(name) else {OURS: _OURS}
            scripts = {who: [part.format(name=name, path=path) for part in both] for who, both in parts.items()}
            for figure, unit in _UNITS:
                runs = {who: partial(in_process, *script, figure, environment) for who, script in scripts.items()}
                yield contest(f"build and load, {figure}", name, runs, turns, unit)
            codes = {
                who: "\n".join(both).format(name=name, path=path)
                for who, both in {**parts, OURS: _COLD, FLOOR: _FLOOR}.items()
            }
            cold = {who: partial(whole_process, code + _LOGITS, environment) for who, code in codes.items()}
            yield contest("cold process to first logits", name, cold, turns)


def bench_weights(name: str, folder: Path) -> tuple[Mapping[str, str], str]:
    """Fill a cache with random checkpoints, one in the published format and torchvision's own."""
    cache = folder / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    path = cache / "bench.pth"
    model = peer_network(name) or az.create_model(name)
    torch.save({"state_dict": model.state_dict()}, path, _use_new_zipfile_serialization=False)
    from torchvision.models import get_model_weights

    address = get_model_weights(name)["IMAGENET1K_V1"].url
    torch.save(az.create_model(name, filter_size=None).state_dict(), cache / address.rpartition("/")[2])
    entry = {"model": name, "filter_size": 4, "recipe": "bench", "file": path.name, "format": "pickle"}
    entry |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "sources": ["https://localhost/bench.pth"]}
    entry |= {"license": "own", "dataset": "noise", "num_classes": 1000, "preprocessing": {}}
    licenses = {"own": {"url": "https://localhost/", "commercial_use": True}}
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"schema": 1, "licenses": licenses, "entries": [entry]}), encoding="utf-8")
    return {**os.environ, "TORCH_HOME": str(folder), "ANTIALIASED_ZOO_MANIFEST": str(manifest)}, str(path)


def imports(options: argparse.Namespace) -> Iterator[Row]:
    """`import antialiased_zoo` in a new process, compared with importing torch and torchvision."""
    runs = {who: partial(whole_process, code) for who, code in _IMPORTS.items()}
    yield contest("new process", "import", runs, options.turns)
