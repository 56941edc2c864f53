"""What tests of evaluation share: noisy images in three classes, a small network, and the measures."""

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from antialiased_zoo.evaluation import Accuracy, Consistency, Corruptions, Diagonal
from antialiased_zoo.weights import Preprocessing

SMALL = Preprocessing(resize=72, crop=40)


def write_images(root):
    """Write 23 noisy PNGs of several sizes in three classes."""
    generator = np.random.default_rng(0)
    for index in range(23):
        height, width = 40 + int(generator.integers(60)), 40 + int(generator.integers(60))
        place = root / "abc"[index % 3]
        place.mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{index:02}.png")
    return root


class Counting(Dataset):
    """Images that remember which of them were read."""

    def __init__(self, images):
        self.images, self.asked, self.classes = images, [], images.classes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.images[index]


def make_model(seed: int = 0, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=4, bias=False),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        # Without a spread over channels one class would win for every image.
        nn.LayerNorm(32),
        nn.Linear(32, classes, bias=False),
    ).eval()


def everything():
    return {
        "accuracy": Accuracy(),
        "crop": Consistency("crop", pairs=2, seed=3),
        "circular": Consistency("circular", seed=3),
        "diagonal": Diagonal(),
        "corruption": Corruptions(["gaussian_noise", "jpeg_compression"]),
    }


def consistency():
    return {"accuracy": Accuracy(), "crop": Consistency("crop"), "circular": Consistency("circular")}
