"""Trains a Faster R-CNN on an antialiased backbone with a feature pyramid to find bright squares.

    python examples/detector.py

Replace `squares` with your own images and boxes; ``pretrained=True`` starts from the zoo's weights.
"""

import argparse

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.ops import MultiScaleRoIAlign, box_iou

import antialiased_zoo as az


def squares(count: int, size: int = 64) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Dark images with one bright square each, in the format of torchvision's detectors."""
    images, targets = [], []
    for _ in range(count):
        side = int(torch.randint(20, 36, ()))
        left, top = (int(corner) for corner in torch.randint(0, size - side, (2,)))
        image = 0.1 * torch.rand(3, size, size)
        image[:, top : top + side, left : left + side] += 0.8
        images.append(image)
        box = torch.tensor([[left, top, left + side, top + side]], dtype=torch.float32)
        targets.append({"boxes": box, "labels": torch.tensor([1])})
    return images, targets


def build(network: str, size: int = 64) -> FasterRCNN:
    """A Faster R-CNN for one class, with group norms, since its batches are small."""
    backbone = az.backbone_with_fpn(
        network, filter_size=4, out_channels=32, norm_layer=lambda channels: torch.nn.GroupNorm(8, channels)
    )
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2)
    return FasterRCNN(backbone, num_classes=2, min_size=size, max_size=size, box_roi_pool=pool)


def main(arguments: list[str] | None = None) -> float:
    """Train, and return the mean IoU of the most confident box and the true one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    images, targets = squares(options.images)
    detector = build(options.network)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=5e-4)
    for step in range(options.steps):
        loss = sum(detector(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.3f}")
    with torch.inference_mode():
        found = detector.eval()(images)
    overlaps = [
        box_iou(one["boxes"][:1], target["boxes"]).sum().item() for one, target in zip(found, targets, strict=True)
    ]
    print(f"mean overlap {sum(overlaps) / len(overlaps):.2f}")
    return sum(overlaps) / len(overlaps)


if __name__ == "__main__":
    main()
