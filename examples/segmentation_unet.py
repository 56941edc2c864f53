"""Trains a U-Net of segmentation_models_pytorch whose encoder is a network of the zoo.

    pip install segmentation-models-pytorch
    python examples/segmentation_unet.py

The encoder is registered under a name, like that package's own encoders, so its other decoders can use it too. To
antialias one of its own encoders in place, call ``az.antialias_(unet.encoder)``.
"""

import argparse

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders import encoders
from torch import Tensor, nn

import antialiased_zoo as az


class Encoder(nn.Module):
    """A network of the zoo as an encoder: the image and its maps at strides 2, 4, 8, 16 and 32."""

    output_stride = 32

    def __init__(self, name: str, depth: int = 5, output_stride: int = 32, **options: object) -> None:
        super().__init__()
        self.name, self.options, self.depth = name, options, depth
        self.set_in_channels(3)

    def set_in_channels(self, in_channels: int, pretrained: bool = False) -> None:
        """Build the network for images with ``in_channels`` channels."""
        self.maps = az.create_model(
            self.name, in_chans=in_channels, features_only=True, out_indices=range(self.depth), **self.options
        )
        self.out_channels = [in_channels, *self.maps.feature_info.channels()]

    def forward(self, x: Tensor) -> list[Tensor]:
        """The image and its maps, from fine to coarse."""
        return [x, *self.maps(x)]


def discs(count: int, size: int = 64) -> tuple[Tensor, Tensor]:
    """Noisy grey images with one disc each, and the discs' masks, both ``(count, 1, size, size)``."""
    radius = torch.randint(8, 16, (count, 1, 1, 1))
    y, x = (torch.randint(16, size - 16, (count, 1, 1, 1)) for _ in range(2))
    at = torch.arange(size)
    masks = ((at[:, None] - y) ** 2 + (at - x) ** 2 < radius**2).float()
    return masks + 0.5 * torch.randn(count, 1, size, size), masks


def main(arguments: list[str] | None = None) -> float:
    """Train, and return the IoU of predicted and true masks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    encoders["antialiased"] = {"encoder": Encoder, "params": {"name": options.network, "filter_size": 4}}
    unet = smp.Unet("antialiased", encoder_weights=None, in_channels=1, classes=1)
    images, masks = discs(options.images)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3)
    for _ in range(options.steps):
        loss = nn.functional.binary_cross_entropy_with_logits(unet(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    az.recalibrate(unet, [images], progress=False)  # running statistics lag behind after so few steps
    with torch.inference_mode():
        found, true = unet.eval()(images) > 0, masks > 0
    overlap = ((found & true).sum() / (found | true).sum()).item()
    print(f"overlap {overlap:.2f}")
    return overlap


if __name__ == "__main__":
    main()
