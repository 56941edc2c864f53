"""Adapts trained weights without labels: distills a network into its antialiased copy on any photos.

    python examples/distillation.py photos.zip

``antialiased-zoo adapt`` does this and measures the result; these are the three calls that it makes.
"""

import argparse

import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import antialiased_zoo as az
from antialiased_zoo import evaluation, metrics


def main(arguments: list[str] | None = None) -> list[float]:
    """Return the agreement with the teacher, in percent, after antialiasing and after each of the two steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="a folder or zip of photos without labels")
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)

    teacher = az.create_model(options.network, filter_size=None, pretrained=True).eval()
    photos = evaluation.open_images(options.photos, labelled=False)
    photos.transform = v2.Compose(
        [
            v2.RandomResizedCrop(options.size, (0.35, 1.0)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(teacher.pretrained_cfg["mean"], teacher.pretrained_cfg["std"]),
        ]
    )
    loader = DataLoader(photos, options.batch_size, shuffle=True, drop_last=True)
    held_out = torch.cat([images for images, _ in loader])[:256]

    def agreement(student: torch.nn.Module) -> float:
        with torch.inference_mode():
            pairs = [(student.eval()(part), teacher(part)) for part in held_out.split(64)]
        same = torch.cat([metrics.agreement(ours, theirs) for ours, theirs in pairs])
        print(f"agrees with the teacher on {100 * same.float().mean():.1f}%")
        return 100 * same.float().mean().item()

    student = az.antialias(teacher, filter_size=4)
    found = [agreement(student)]
    found.append(agreement(az.recalibrate(student, loader, progress=False)))
    found.append(agreement(az.distill(student, teacher, loader, steps=options.steps)))
    return found


if __name__ == "__main__":
    main()
