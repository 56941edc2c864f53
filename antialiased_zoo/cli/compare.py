"""Arguments of ``antialiased-zoo compare``; `comparison`, which imports torch, runs it."""

from __future__ import annotations

import argparse

from .files import picture
from .numbers import positive

HELP = "Shift a photo pixel by pixel: how often each of two networks changes its prediction."
_MODEL = (
    "NAME[:lpfK or :baseline[:RECIPE]] of the zoo, timm:NAME, torchvision:NAME, hf-hub:OWNER/NAME or MODULE:CALLABLE, "
    "each with [:FILTER][:WEIGHTS]; LABEL= before it names it"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("models", nargs=2, metavar="MODEL", help=_MODEL)
    parser.add_argument("photo", metavar="PHOTO", help="an image file")
    parser.add_argument(
        "--shifts", type=positive, metavar="N", help="number of one-pixel steps; default: 32, or 6 for small images"
    )
    parser.add_argument("--label", help="the class of the curves; default: the first model's prediction")
    parser.add_argument("--plot", type=picture, metavar="FILE", help="draw the two curves to this picture file")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from .comparison import compare

    compare(options)
    return 0
