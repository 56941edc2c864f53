"""The command ``export``: writes a network for another runtime, if the outputs agree with the original's."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import new_file
from .numbers import not_negative, positive
from .output import complain, say, say_json
from .specs import SPEC

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..evaluation import Described
    from ..inference import Exported

HELP = "Export a network for another runtime, and compare its outputs with the original's."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("weights", metavar="WEIGHTS", help=f"{SPEC}; a FILE, folder or hf-hub:OWNER/NAME")
    parser.add_argument("--output", type=new_file, required=True, help="the file to write")
    parser.add_argument("--format", choices=("onnx", "pt2", "aoti"), default="onnx", help="default: %(default)s")
    axes = ("batch", "height", "width")
    parser.add_argument(
        "--dynamic", nargs="+", choices=axes, default=[], help="axes whose size may vary; default: none"
    )
    parser.add_argument("--check", metavar="IMAGE", help="a photo to compare the outputs on; default: noise")
    parser.add_argument("--size", type=positive, help="side of the images, in pixels; default: the weights'")
    parser.add_argument(
        "--tolerance", type=not_negative, default=1e-4, help="relative to the largest output; default: %(default)s"
    )
    parser.add_argument("--model", help="network of a FILE that does not state it: NAME[:lpfK[:RECIPE]]")
    parser.add_argument("--classes", type=positive, help="number of classes of a FILE for timm:NAME; others state it")
    parser.add_argument("--device", default="cpu", help="torch device; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(options: argparse.Namespace) -> int:
    """Export to a temporary file, compare, and move it to the output path if the outputs agree."""
    from ..inference import export_model, load_exported
    from .prediction import network

    model, entry = network(options)
    size = options.size or entry.preprocessing.crop
    images = dict(_images(options, entry, size))  # before the work, in case the photo is unreadable
    output: Path = options.output
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        shape = (len(entry.preprocessing.mean), size, size)
        settings: dict[str, Any] = {"format": options.format, "input_size": shape, "dynamic": options.dynamic}
        path = export_model(model, Path(folder) / output.name, **settings)
        rows = [_compare(name, batch, model, load_exported(path, options.format)) for name, batch in images.items()]
        for row in rows:
            if not row["difference"] <= options.tolerance:  # also true for NaN
                far = f"the exported network differs by {row['difference']:.1e} on {row['images']}"
                complain(f"{far}, more than --tolerance: nothing was written")
                return 1
        os.replace(path, output)
    _report(options, entry, rows)
    return 0


def _images(options: argparse.Namespace, entry: Described, size: int) -> Iterator[tuple[str, Tensor]]:
    """Yield a photo or noise of the exported size, and noise of another size if an axis is dynamic."""
    import torch

    from ..evaluation import read_photo

    channels, generator = len(entry.preprocessing.mean), torch.Generator().manual_seed(0)
    if options.check:
        photo = entry.preprocessing.build()(read_photo(options.check))[None]
        if photo.shape[-1] != size:
            photo = torch.nn.functional.interpolate(photo, (size, size), mode="bilinear", antialias=True)
        yield Path(options.check).name, photo.to(options.device)
    shapes = [] if options.check else [(1, channels, size, size)]
    if options.dynamic:
        more = {"batch": (2, 0, 0), "height": (0, size // 4 + 1, 0), "width": (0, 0, size // 2)}
        n, h, w = (sum(axes) for axes in zip(*(more[axis] for axis in options.dynamic), strict=True))
        shapes.append((1 + n, channels, size + h, size + w))
    for shape in shapes:
        yield "x".join(map(str, shape)), torch.randn(shape, generator=generator).to(options.device)


def _compare(name: str, images: Tensor, model: nn.Module, exported: Exported) -> dict[str, Any]:
    import torch

    with torch.no_grad():
        expected = model(images).cpu()
        try:
            got = exported(images).cpu()
        except Exception as error:  # runtimes raise different classes
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"the exported network fails on {name}, nothing was written: {reason}") from error
        return {
            "images": name,
            "difference": float((got - expected).abs().max() / expected.abs().max()),
            "classes": [got[0].argmax().item(), expected[0].argmax().item()],
            "milliseconds": [_milliseconds(network, images) for network in (exported, model)],
        }


def _milliseconds(network: Exported | nn.Module, images: Tensor) -> float:
    """Median time of a call, until its result is on the CPU."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        network(images).cpu()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def _report(options: argparse.Namespace, entry: Described, rows: list[dict[str, Any]]) -> None:
    from ..evaluation import class_labels

    if options.json:
        say_json({"output": str(options.output), "format": options.format, "compared": rows})
        return
    say(f"{options.output}: {options.format}, {options.output.stat().st_size / 1e6:.1f} MB")
    names = class_labels(entry)
    for row in rows:
        mine, original = row["milliseconds"]
        answers = [names[index] for index in row["classes"]] if row["images"] == Path(options.check or "").name else []
        same = f"; {answers[0]}, original {answers[1]}" if answers else ""
        say(f"{row['images']}: difference {row['difference']:.1e}; {mine:.1f} ms, original {original:.1f} ms{same}")
