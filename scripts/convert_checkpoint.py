"""Converts a published network's checkpoint to safetensors under torchvision's names.

    python scripts/convert_checkpoint.py resnet50 resnet50_lpf4-994b528f.pth resnet50_lpf4.safetensors

The pickle is read with ``weights_only=True``, its tensors must fit the network, and none may hold NaN. The new file
records the SHA-256 of the old one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from running import run_script
from torchvision.models import get_model

from antialiased_zoo.cli.files import new_file
from antialiased_zoo.cli.numbers import positive
from antialiased_zoo.weights.checkpoints.loading import convert
from antialiased_zoo.weights.hub.digest import sha256


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="torchvision's name of the network, such as resnet50")
    parser.add_argument("checkpoint", type=Path, help="a torch pickle, old or new")
    parser.add_argument("output", type=new_file, help="the safetensors file to write")
    parser.add_argument("--num-classes", type=positive, default=1000)
    options = parser.parse_args(arguments)
    if options.output.exists() and options.output.samefile(options.checkpoint):
        parser.error(f"{options.output} is the checkpoint itself: give the new file another name")
    with torch.device("meta"):
        model = get_model(options.model, weights=None, num_classes=options.num_classes)
    with options.checkpoint.open("rb", buffering=0) as file:
        digest = sha256(file)
    convert(options.checkpoint, options.output, model.state_dict(), source_sha256=digest)
    print(f"{options.output}: {len(model.state_dict())} tensors from {digest}")


if __name__ == "__main__":
    run_script(main)
