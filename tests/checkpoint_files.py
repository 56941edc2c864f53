"""What the tests of checkpoints share: the peer's state dicts, entries for served files, files written by hand."""

import hashlib
import json
import re
from pathlib import Path

import antialiased_cnns
import torch
import torchvision
from fault_server import FaultServer
from manifests import text_of
from safetensors.torch import save_file
from torch import Tensor, nn

from antialiased_zoo.weights import manifest


def meta(name: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        return torchvision.models.get_model(name, **options)


def published(name: str) -> dict[str, Tensor]:
    """Return the peer's state dict with random tensors; DenseNet under its old names."""
    with torch.device("meta"):
        layout = getattr(antialiased_cnns, name)(filter_size=4).state_dict()
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, value in layout.items():
        old = re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key)
        real = value.dtype.is_floating_point
        state[old] = torch.rand(value.shape, generator=generator) if real else torch.tensor(7)
    return state


def in_order_of_use(model: nn.Module) -> list[str]:
    """Return the names of tensors in the order in which a forward pass uses them, whatever order they have."""
    used: list[str] = []

    def note(name: str, module: nn.Module) -> None:
        module.register_forward_pre_hook(lambda module, _: used.extend(f"{name}.{key}" for key in module.state_dict()))

    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):
            note(name, module)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, 224, 224, device="meta"))
    return used


def entry_for(path: Path, server: FaultServer, model: str, **facts: object) -> manifest.Entry:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    record = {
        "model": model,
        "filter_size": 4,
        "recipe": "test",
        "file": f"{path.stem}-{digest[:8]}{path.suffix}",
        "format": "pickle",
        "sha256_prefix": digest[:8],
        "sources": [f"{server.url}/good/{path.name}"],
        "license": "MIT",
        "dataset": "none",
        "num_classes": 1000,
        "preprocessing": {},
        **facts,
    }
    return manifest.parse(text_of(record)).entries[0]


def write(state: dict[str, Tensor], path: Path, kind: str) -> None:
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")


def safetensors_bytes(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def tensor(start: int, stop: int, shape: tuple[int, ...] = (1, 1), dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}
