"""Times the GPU kernel with every tile of a grid: python scripts/gpu_tiles.py --out tiles.json.

Each figure is the time of a copy of as many bytes over the kernel's time. The tiles in `layers/gpu/launch.py` were
chosen so. Processes compile the kernels first, as that takes longer than to time them.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from benchmarks.contest import timed
from benchmarks.layers import LAYOUTS
from benchmarks.report import machine
from torch import Tensor
from tqdm import tqdm

from antialiased_zoo.cli.numbers import positive
from antialiased_zoo.layers.filters import Blur
from antialiased_zoo.layers.gpu import launch
from antialiased_zoo.training import write_json

_DTYPE, _CALLS = torch.bfloat16, 10
BLUR = Blur.make(4, 2, "reflect", 0, 2)


class Case(NamedTuple):
    """A tile for maps of one kind."""

    layout: str
    transposed: bool
    tile: launch.Tile
    channels: int
    size: int


def cases(maps: Sequence[str]) -> Iterator[Case]:
    """Every case; in channels-last several columns of a thread gain nothing."""
    for layout, transposed in itertools.product(LAYOUTS, (False, True)):
        columns = (1, 2, 4) if layout == "NCHW" else (1,)
        for shape in itertools.product((1, 2, 4, 8), columns, (1, 2, 4), (1, 2)):
            for channels, size in (map(int, each.split("x")) for each in maps):
                yield Case(layout, transposed, launch.Tile(*shape), channels, size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", type=torch.device, default="cuda")
    maps = ("64x112", "128x56", "256x28", "96x55")  # columns in vectors of 16 and 8 bytes, and in none
    parser.add_argument("--maps", nargs="+", default=maps, metavar="CHANNELSxSIZE")
    parser.add_argument("--images", type=positive, default=128)
    parser.add_argument("--processes", type=positive, default=12, help="that compile; default: %(default)s")
    parser.add_argument("--most", type=positive, help="only the first cases, to try the script")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    options = parser.parse_args()
    chosen = list(cases(options.maps))[: options.most]
    if options.device.type == "cuda":
        with multiprocessing.get_context("fork").Pool(options.processes) as pool:
            pool.starmap(compile_, [(chosen[i :: options.processes],) for i in range(options.processes)])
    rows = [{**case._asdict(), "tile": case.tile._asdict(), "share": share(case, options)} for case in tqdm(chosen)]
    write_json(options.out, {"machine": machine(options.device), "rows": rows})


def share(case: Case, options: argparse.Namespace) -> float:
    """The time of a copy of as many bytes over the kernel's."""
    run = blur_with(case, options.images, options.device)
    moved = torch.empty(options.images * case.channels * case.size**2 * 5 // 8, device=options.device, dtype=_DTYPE)
    copy = partial(torch.empty_like(moved).copy_, moved)
    return timed(copy, options.device, _CALLS) / timed(run, options.device, _CALLS)


def compile_(chosen: Sequence[Case]) -> None:
    """Compile the kernel for some cases; Triton keeps it on disk."""
    for case in chosen:
        blur_with(case, 2, torch.device("cuda"))()


def blur_with(case: Case, images: int, device: torch.device) -> Callable[[], Tensor]:
    """The blur of a case, or its transpose, with the case's tile."""
    shape = (images, case.channels, case.size, case.size)
    target = launch.Target(shape[2:], case.layout != "NCHW") if case.transposed else None
    size = BLUR.out_size(shape[2:]) if case.transposed else shape[2:]
    x = torch.randn(*shape[:2], *size, device=device, dtype=_DTYPE).contiguous(memory_format=LAYOUTS[case.layout])
    launch.TILES.update(dict.fromkeys(launch.TILES, case.tile))
    launch._plan.cache_clear()
    return partial(launch.run, x, BLUR, target)


if __name__ == "__main__":
    main()
