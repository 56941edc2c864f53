"""Compare how fast images are decoded for evaluation with torchvision's ImageFolder and torch's DataLoader.

    python scripts/data_speed.py --out results/data_path

Makes a folder of JPEGs, reads it with both in turn with 0 and 2 workers, and prints images per second. Both give the
same float32 batches, which is checked. CPU time, workers included, is measured too: other work on the machine affects
it less than wall time. See scripts/README.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from running import run_script
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from antialiased_zoo.cli.numbers import natural, positive
from antialiased_zoo.evaluation import Options, imagenet, open_images
from antialiased_zoo.evaluation.decoding import batches
from antialiased_zoo.evaluation.views import ViewMaker, centre_view
from antialiased_zoo.training import made_folder, versions, write_json
from antialiased_zoo.weights import Preprocessing

BATCH = 32


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=positive, default=1024)
    parser.add_argument("--side", type=positive, default=320, help="of the JPEGs, in pixels")
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument("--workers", type=natural, nargs="+", default=[0, 2])
    parser.add_argument("--out", type=Path, help="folder for data_path.json and data_path.md")
    return parser.parse_args(argv)


def make_images(root: Path, count: int, side: int) -> None:
    """Smooth noise: about as many bytes as a photo of that size."""
    generator = torch.Generator().manual_seed(0)
    for index in range(count):
        small = torch.rand(1, 3, side // 8, side // 8, generator=generator)
        pixels = torch.nn.functional.interpolate(small, (side, side), mode="bicubic").clamp(0, 1).mul(255).byte()
        place = root / f"class{index % 4}"
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).save(place / f"{index:05}.jpg", quality=90)


def ours(root: Path, facts: Preprocessing, workers: int) -> Iterator[Tensor]:
    """The images that `evaluate` shows a model that is measured only on the centre crop."""
    protocol, options = imagenet(facts), Options(batch_size=BATCH, workers=workers, progress=False)
    for batch in batches(open_images(root), [protocol], options):
        maker = ViewMaker(batch.canvases(protocol), protocol, options.device)
        count = len(batch.indices)
        yield maker.make(torch.cat([torch.arange(count)[:, None], centre_view(protocol).expand(count, 3)], dim=1))


def theirs(root: Path, facts: Preprocessing, workers: int) -> Iterator[Tensor]:
    """ImageFolder with its own loader and transforms, and a DataLoader."""
    for images, _ in DataLoader(ImageFolder(str(root), facts.build()), batch_size=BATCH, num_workers=workers):
        yield images


def seconds(read: Callable[[], Iterator[Tensor]]) -> tuple[float, float]:
    """Wall time, and CPU time of this process and its workers, which have ended by then, in seconds."""
    started, before = time.perf_counter(), os.times()
    for _ in read():
        pass
    took, after = time.perf_counter() - started, os.times()
    return took, sum(after[:4]) - sum(before[:4])


def compare(root: Path, workers: int, args: argparse.Namespace) -> dict[str, Any]:
    """Read everything with both in turn; return images per second, and medians and quartiles of the ratios."""
    facts = Preprocessing()
    ways = {"ours": ours, "theirs": theirs}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for a, b in zip(ours(root, facts, workers), theirs(root, facts, workers), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    for turn in range(args.rounds):
        for name in sorted(ways, reverse=bool(turn % 2)):
            times[name].append(seconds(lambda name=name: ways[name](root, facts, workers)))
    speeds = {name: args.images / statistics.median(took for took, _ in taken) for name, taken in times.items()}
    row: dict[str, Any] = {"workers": workers, "images_per_second": speeds}
    for at, key in enumerate(("ratio", "processor_ratio")):
        ratios = [b[at] / a[at] for a, b in zip(times["ours"], times["theirs"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        row[key] = {"median": middle, "quartiles": [low, high]}
    return row


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    torch.set_num_threads(1)
    if args.out:
        made_folder(args.out)  # before the work
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), args.images, args.side)
        rows = [compare(Path(folder), workers, args) for workers in args.workers]
    lines = [
        "| workers | evaluate (images/s) | ImageFolder, DataLoader (images/s) | ratio (quartiles) "
        "| CPU seconds, ratio (quartiles) |",
        "| --- " * 5 + "|",
    ]
    for row in rows:
        speeds = row["images_per_second"]
        cells = [row["workers"], f"{speeds['ours']:.0f}", f"{speeds['theirs']:.0f}"]
        for found in (row["ratio"], row["processor_ratio"]):
            cells.append("{:.2f} ({:.2f}, {:.2f})".format(found["median"], *found["quartiles"]))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    if args.out:
        facts = {"images": args.images, "side": args.side, "rounds": args.rounds, "versions": versions(), "rows": rows}
        write_json(args.out / "data_path.json", facts)
        (args.out / "data_path.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))  # last, since the output may be closed


if __name__ == "__main__":
    run_script(main, sys.argv[1:])
