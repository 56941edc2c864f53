"""What the tests of training share: tiny images of two colours, a tiny network, a trainer for both."""

import numpy as np
import torch
from PIL import Image
from torch import nn

from antialiased_zoo.evaluation.data import open_images
from antialiased_zoo.training.batches import FileBatches, MemoryBatches
from antialiased_zoo.training.loop import Trainer
from antialiased_zoo.training.recipes import Recipe
from antialiased_zoo.training.runs import RunFolder
from antialiased_zoo.weights.preprocessing import Preprocessing

SMALL = Preprocessing(resize=12, crop=12)
CPU = torch.device("cpu")
TINY = Recipe(sizes=((8, 1), (12, 1)), augment="pad-crop", batch_size=8, lr=0.05, schedule="cosine")
PAIR = Recipe(sizes=((12, 2),), augment="resized-crop", batch_size=8, lr=0.05, schedule="cosine")


def make_images(root, train=20, val=7, seed=0):
    noise = np.random.default_rng(seed)
    for part, count in (("train", train), ("val", val)):
        for name, colour in (("blue", (60, 60, 160)), ("red", (160, 60, 60))):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.clip(noise.normal(colour, 40, (12, 12, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")
    return root


def small_net(norm=False):
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(4)] if norm else []
    return nn.Sequential(nn.Conv2d(3, 4, 3), *norms, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2))


def trainer(folder, run, recipe=TINY, model=None, **options):
    kind = MemoryBatches if recipe.augment == "pad-crop" else FileBatches
    train = kind(open_images(folder / "train"), SMALL, CPU)
    val = FileBatches(open_images(folder / "val"), SMALL, CPU)
    return Trainer(model or small_net(), recipe, train, val, RunFolder(run), **options)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
