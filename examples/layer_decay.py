"""Fine-tunes with timm's layer-wise learning rates, which are smaller for layers closer to the image.

pip install timm
python examples/layer_decay.py

``pretrained=True`` starts from the zoo's weights.
"""

import argparse

import torch
from timm.optim import create_optimizer_v2
from torch import nn

import antialiased_zoo as az


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Take some steps, and return the relative change of each layer's weight."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--layer-decay", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    model = az.create_model(options.network, filter_size=4, num_classes=5)  # pretrained=True for the zoo's weights
    before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}

    optimizer = create_optimizer_v2(model, "sgd", lr=0.01, weight_decay=0.0, layer_decay=options.layer_decay)
    for group in optimizer.param_groups:
        group["lr"] *= group["lr_scale"]  # timm's schedulers do this
    images, classes = torch.randn(16, 3, 64, 64), torch.arange(16) % 5
    for _ in range(options.steps):
        loss = nn.functional.cross_entropy(model(images), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    moved: dict[str, float] = {}
    for name, tensor in model.named_parameters():
        if tensor.dim() == 4:
            part = name.rpartition(".")[0]
            moved[part] = ((tensor - before[name]).norm() / before[name].norm()).item()
    for part, distance in moved.items():
        print(f"{part}: relative change {distance:.2e}")
    return moved


if __name__ == "__main__":
    main()
