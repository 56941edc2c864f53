"""Fine-tunes low-rank adapters (LoRA) on an antialiased network: only 5% as many parameters are trained.

    pip install peft
    python examples/lora.py

Blurs come after activations, not inside the convolutions that peft wraps, so the adapted network keeps them.
"""

import argparse

import peft
import torch
from torch import nn

import antialiased_zoo as az


def main(arguments: list[str] | None = None) -> tuple[float, float]:
    """Train the adapters, and return the first and the last loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--steps", type=int, default=15)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    network = az.create_model(options.network, filter_size=4, num_classes=5)  # pretrained=True for the zoo's weights
    targets = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d) and name != "conv1"]
    config = peft.LoraConfig(r=4, target_modules=targets, modules_to_save=["fc"])
    images, classes = torch.randn(16, 3, 64, 64), torch.arange(16) % 5
    sizes = [tuple(level.shape) for level in az.zoo.FeatureMaps(network)(images)]

    model = peft.get_peft_model(network, config)
    model.print_trainable_parameters()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(options.steps):
        loss = nn.functional.cross_entropy(model(images), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}")

    merged = model.merge_and_unload()  # a plain network again, of the same structure
    assert [tuple(level.shape) for level in az.zoo.FeatureMaps(merged)(images)] == sizes
    print(merged.config.describe())
    return losses[0], losses[-1]


if __name__ == "__main__":
    main()
