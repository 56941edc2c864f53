"""``antialiased-zoo compare``: its arguments; what it does is in `comparison`, which imports torch."""

from __future__ import annotations

import argparse

HELP = "Slide a photo under two networks, one pixel at a time: how often each changes its answer."
_MODEL = (
    "NAME[:lpfK or :baseline[:RECIPE]] of the zoo, timm:NAME, torchvision:NAME, hf-hub:OWNER/NAME or MODULE:CALLABLE, "
    "each with [:FILTER][:WEIGHTS]; LABEL= before it names it"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("models", nargs=2, metavar="MODEL", help=_MODEL)
    parser.add_argument("photo", metavar="PHOTO", help="an image file")
    parser.add_argument("--shifts", type=int, metavar="N", help="steps of one pixel; by default 32, or 6")
    parser.add_argument("--label", help="the class whose probability is followed; by default the first model's answer")
    parser.add_argument("--plot", metavar="FILE", help="draw the two curves into this picture")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from .comparison import compare

    compare(options)
    return 0
