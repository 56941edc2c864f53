"""Times the GPU kernel with the tiles of a grid: python scripts/gpu_tiles.py --out tiles.json.

Each figure is the time of a copy of as many bytes over the kernel's time, the median of some turns, which the tiles
take one after the other. The tiles in `layers/gpu/launch.py` were chosen so. Processes compile the kernels first, as
that takes longer than to time them.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from benchmarks.contest import timed
from benchmarks.layers import LAYOUTS
from benchmarks.report import machine
from running import run_script
from torch import Tensor
from tqdm import tqdm

from antialiased_zoo.cli.numbers import positive
from antialiased_zoo.layers.filters import Blur
from antialiased_zoo.layers.gpu import launch
from antialiased_zoo.training import write_json

_CALLS = 10
BLUR = Blur.make(4, 2, "reflect", 0, 2)


class Map(NamedTuple):
    """The maps that the tiles of a group are timed with."""

    layout: str
    transposed: bool
    channels: int
    size: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", type=torch.device, default="cuda")
    maps = ("64x112", "128x56", "256x28", "256x55")  # columns in vectors of 16 and 8 bytes, and in none
    parser.add_argument("--maps", nargs="+", default=maps, metavar="CHANNELSxSIZE")
    parser.add_argument("--images", type=positive, default=128)
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--directions", nargs="+", choices=("forward", "backward"), default=["forward", "backward"])
    parser.add_argument("--rows", nargs="+", type=positive, default=[1, 2, 4, 8], help="default: %(default)s")
    parser.add_argument(
        "--columns", nargs="+", type=positive, default=[2], help="where threads hold no vectors of them"
    )
    parser.add_argument("--warps", nargs="+", type=positive, default=[1, 4, 8], help="default: %(default)s")
    parser.add_argument("--ahead", nargs="+", type=int, default=[1, 2], help="default: %(default)s")
    parser.add_argument("--turns", type=positive, default=3)
    parser.add_argument("--processes", type=positive, default=12, help="that compile; default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    options = parser.parse_args()
    options.dtype = getattr(torch, options.dtype)
    tiles = [
        launch.Tile(*each) for each in itertools.product(options.rows, options.columns, options.warps, options.ahead)
    ]
    chosen = list(cases(options))
    if options.device.type == "cuda":
        work = [(case, tile, options) for case, tile in itertools.product(chosen, tiles)]
        with multiprocessing.get_context("fork").Pool(options.processes) as pool:
            pool.starmap(compile_, work, chunksize=1)
    rows = [row for case in tqdm(chosen) for row in shares(case, tiles, options)]
    write_json(options.out, {"machine": machine(options.device), "rows": rows})


def cases(options: argparse.Namespace) -> Iterator[Map]:
    for layout, direction, name in itertools.product(options.layouts, options.directions, options.maps):
        channels, size = map(int, name.split("x"))
        yield Map(layout, direction == "backward", channels, size)


def shares(case: Map, tiles: Sequence[launch.Tile], options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """For each tile, the time of a copy of as many bytes over the kernel's."""
    run = blur_of(case, options.images, options)
    size = options.images * case.channels * case.size**2 * 5 // 8
    moved = torch.empty(size, device=options.device, dtype=options.dtype)
    copy = partial(torch.empty_like(moved).copy_, moved)
    found: dict[launch.Tile, list[float]] = {tile: [] for tile in tiles}
    for _, tile in itertools.product(range(options.turns), tiles):
        use(tile, case)
        run()
        found[tile].append(timed(copy, options.device, _CALLS) / timed(run, options.device, _CALLS))
    for tile, values in found.items():
        yield {**case._asdict(), "tile": tile._asdict(), "share": round(statistics.median(values), 3)}


def compile_(case: Map, tile: launch.Tile, options: argparse.Namespace) -> None:
    """Compile the kernel for a case; Triton keeps it on disk."""
    use(tile, case)
    blur_of(case, 2, options)()


def use(tile: launch.Tile, case: Map) -> None:
    """Let the kernel use the tile for all maps; in channels-last several columns of a thread gain nothing."""
    if case.layout == "channels-last":
        tile = tile._replace(columns=1)
    launch.TILES.update(dict.fromkeys(launch.TILES, tile))
    launch._plan.cache_clear()


def blur_of(case: Map, images: int, options: argparse.Namespace) -> Callable[[], Tensor]:
    """The blur of a map, or its transpose."""
    shape = (images, case.channels, case.size, case.size)
    target = launch.Target(shape[2:], case.layout != "NCHW") if case.transposed else None
    size = BLUR.out_size(shape[2:]) if case.transposed else shape[2:]
    x = torch.randn(*shape[:2], *size, device=options.device, dtype=options.dtype)
    return partial(launch.run, x.contiguous(memory_format=LAYOUTS[case.layout]), BLUR, target)


if __name__ == "__main__":
    run_script(main)
