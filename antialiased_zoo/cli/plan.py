"""The command ``plan``: where antialiasing would place blurs in a network, and their cost."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .numbers import filter_size, positive
from .output import say

if TYPE_CHECKING:
    from torch import nn

HELP = "Print where blurs would go in a network, and why; nothing is changed or downloaded."
_MODEL = (
    "MODULE:CALLABLE that returns a network (MODULE may be a file in this folder), timm:NAME, torchvision:NAME, or "
    "a network of the zoo"
)
_INPUT = (
    "side in pixels, or sizes such as 3x224x224 (1x16000 for a 1-D network, 1x64x96x96 for a 3-D one); adds the cost "
    "(multiply-adds and activations)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help=_MODEL)
    parser.add_argument("--input", type=_input_size, metavar="SIZE", help=_INPUT)
    parser.add_argument(
        "--filter-size", type=filter_size, default=4, help="filter size for the cost; default: %(default)s"
    )
    parser.add_argument(
        "--stem-stride", type=positive, default=2, help="stride that the first convolution keeps; default: 2"
    )
    parser.add_argument("--graph", action="store_true", help="plan for a graph: functions are treated too")


def run(options: argparse.Namespace) -> int:
    """Print the plan, and how many of the strided ops it treats."""
    from ..evaluation import load_named
    from ..transform import plan
    from ..zoo import ARCHITECTURES

    known = ARCHITECTURES.get(options.model)
    model = load_named(_without_weights(options.model)).model
    found = plan(
        model.eval(),
        input_size=options.input and _batch(options.input, model),
        filter_size=options.filter_size,
        stem_stride=options.stem_stride,
        graph=options.graph,
        **(known.structure if known else {}),
    )
    say(str(found))
    say(f"{len(found.treated)} of {len(found.sites)} strided ops get a blur")
    return 0


def _without_weights(text: str) -> str:
    """The spec with random weights, so that nothing is fetched."""
    from ..zoo import ARCHITECTURES

    if text in ARCHITECTURES:
        return f"{text}:baseline"
    source, _, name = text.partition(":")
    return f"{text}:none" if source in ("timm", "torchvision", "hf-hub") and ":" not in name else text


def _input_size(text: str) -> tuple[int, ...]:
    """Parse 224, 3x224x224 or 1x3x224x224."""
    try:
        return tuple(positive(number) for number in text.lower().split("x"))
    except argparse.ArgumentTypeError:
        expected = "a side such as 224, or sizes such as 3x224x224"
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}") from None


def _batch(sizes: tuple[int, ...], model: nn.Module) -> tuple[int, ...]:
    """The shape of a batch of one; channels and axes that ``sizes`` leaves out are those of the first convolution."""
    from torch import nn

    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d))
    first = next(convolutions, None)
    axes, channels = (len(first.stride), first.in_channels) if first else (2, 3)
    sizes = sizes * axes if len(sizes) == 1 else sizes
    return (1, channels, *sizes) if len(sizes) == axes else (1, *sizes) if len(sizes) == axes + 1 else sizes
