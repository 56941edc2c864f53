"""Fine-tunes a network on a few greyscale photos, with and without antialiasing, and compares the two.

python examples/finetune_greyscale.py FOLDER --pretrained  # or a zip; with train/CLASS/IMAGE and val/CLASS/IMAGE
"""

import argparse

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

import antialiased_zoo as az
from antialiased_zoo import evaluation, metrics


def photos(folder: str, size: int, per_class: int) -> tuple[Tensor, Tensor]:
    """Greyscale photos, the same number of each class, ``(N, 1, size, size)`` in 0..1, with their classes."""
    steps = [v2.Grayscale(), v2.Resize((size, size)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    files = evaluation.open_images(folder, v2.Compose(steps))
    order = torch.randperm(len(files))
    classes = torch.tensor(files.targets)[order]
    chosen = torch.cat([order[classes == label][:per_class] for label in classes.unique()])
    return torch.stack([files[index][0] for index in chosen.tolist()]), torch.tensor(files.targets)[chosen]


def train(model: nn.Module, images: Tensor, classes: Tensor, epochs: int) -> None:
    """Train with AdamW, a one-cycle schedule and random flips and shifts; then recalibrate batch norms."""
    augment = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(images.shape[-1], padding=images.shape[-1] // 8)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    steps = len(images) // 32
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, epochs * steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(32)[:steps]:
            inputs = torch.stack([augment(image) for image in images[batch]])
            loss = nn.functional.cross_entropy(model(inputs), classes[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    az.recalibrate(model, images.split(32), progress=False)


def measure(model: nn.Module, images: Tensor, classes: Tensor) -> dict[str, float]:
    """Accuracy, and crop consistency: share of photos with the same class at two shifts by -3 to 2 pixels."""
    pairs = metrics.draw_pairs(torch.arange(len(images)), range(6))
    consistency = metrics.crop_consistency(model, nn.functional.pad(images, [3] * 4), images.shape[-1], pairs)
    return {"accuracy": metrics.accuracy(model, images, classes).value, "crop consistency": consistency.value}


def main(arguments: list[str] | None = None) -> list[dict[int | None, dict[str, float]]]:
    """Fine-tune both networks with each seed, and return their figures by filter size, for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--pretrained", action="store_true", help="start from the zoo's weights instead of random ones")
    for name, value in {"size": 64, "train-photos": 100, "test-photos": 100, "epochs": 4, "seeds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help="of each class" if "photos" in name else None)
    options = parser.parse_args(arguments)
    found: list[dict[int | None, dict[str, float]]] = [{} for _ in range(options.seeds)]
    for seed, filter_size in ((seed, k) for seed in range(options.seeds) for k in (None, 4)):
        torch.manual_seed(seed)  # both networks see the same photos, in the same order
        images, classes = photos(f"{options.data}/train", options.size, options.train_photos)
        test_images, test_classes = photos(f"{options.data}/val", options.size, options.test_photos)
        model = az.create_model(options.network, filter_size, options.pretrained, len(classes.unique()), in_chans=1)
        normalize = v2.Normalize(model.pretrained_cfg["mean"], model.pretrained_cfg["std"])
        train(model, normalize(images), classes, options.epochs)
        found[seed][filter_size] = measure(model, normalize(test_images), test_classes)
        print(f"seed {seed}, filter {filter_size}: {found[seed][filter_size]}", flush=True)
    for title in found[0][4]:
        before, after = ([result[k][title] for result in found] for k in (None, 4))
        gains = metrics.average([b - a for a, b in zip(before, after, strict=True)], lowest=-1.0)
        both = [metrics.average(values).times(100) for values in (before, after)]
        print(f"{title}: baseline {both[0]}, antialiased {both[1]}, difference {gains.times(100)}")
    return found


if __name__ == "__main__":
    main()
