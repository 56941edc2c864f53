"""Arguments of ``antialiased-zoo adapt``; `adapt_run`, which imports torch, runs it."""

from __future__ import annotations

import argparse
from pathlib import Path

from .numbers import above_zero, below_one, filter_size, natural, positive, share
from .output import say

HELP = "Antialias a pretrained network, and distill it into the antialiased copy on unlabelled photos."
_MODEL = (
    "the network to adapt: a zoo NAME (its baseline weights), NAME:baseline:RECIPE or FILE, timm:NAME, "
    "torchvision:NAME:IMAGENET1K_V2, hf-hub:OWNER/NAME, or MODULE:CALLABLE"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help=_MODEL)
    parser.add_argument("--images", type=Path, required=True, help="folder or zip of photos; no labels are read")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, record, card, picture; resumed")
    parser.add_argument("--evaluate", type=Path, help="photos to measure on; default: those held out of --images")
    parser.add_argument("--filter-size", type=filter_size, default=4, help="default: %(default)s")
    parser.add_argument("--steps", type=positive, default=2000, help="default: %(default)s")
    parser.add_argument("--batch-size", type=positive, default=32, help="over all processes; default: %(default)s")
    parser.add_argument("--lr", type=above_zero, default=2e-4, help="Adam's; default: %(default)s")
    parser.add_argument("--size", type=positive, help="side of the student's input in pixels; default: the network's")
    parser.add_argument(
        "--reach",
        type=positive,
        help="largest shift of the teacher's views in pixels; default: 8, or 2 for small images",
    )
    parser.add_argument(
        "--circular", type=share, default=0.1, help="share of steps on circularly shifted images; default: %(default)s"
    )
    parser.add_argument(
        "--start", metavar="MODEL", help="an adapted copy to train further, as it is, instead of MODEL's own tensors"
    )
    parser.add_argument("--layers", nargs="+", help="layers whose maps are compared; default: up to four")
    parser.add_argument("--ema", type=below_one, default=0.0, help="decay of the weights' average; default: none")
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="under torchrun each process uses its own GPU; default: auto")
    parser.add_argument("--threads", type=positive, help="CPU threads")
    parser.add_argument(
        "--workers", type=natural, help="processes that load photos; default: up to 8 on a GPU, else none"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..layers import keep_freed_memory
    from .adapt_run import adapt

    if options.is_own_process:  # no caller's setting changes; with small batches, measuring takes a quarter of the time
        keep_freed_memory()
    if table := adapt(options):  # only the first process has one
        say(table)
    return 0
