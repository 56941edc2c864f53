"""Checks of `antialias` on random small networks: the property test of the transform.

python scripts/random_networks.py 2000             # seeds 0 to 1999
python scripts/random_networks.py 1 --first 1234   # one of them

`random_parts.py` makes the networks.
"""

from __future__ import annotations

import argparse
import copy
import pickle
import random
import warnings
from collections.abc import Callable
from typing import Any

import torch
from coverage_checks import check
from random_parts import CHANNELS, Net, network
from running import run_script
from tool_table import swapped
from torch import nn

import antialiased_zoo as az
from antialiased_zoo.cli.numbers import natural, positive
from antialiased_zoo.errors import LostBlurError


def _other_activation(net: Any) -> Any:
    return swapped(net, lambda child: nn.Hardswish().eval() if type(child) in (nn.ReLU, nn.ReLU6) else None)


def _other_convolution(net: Any) -> Any:
    def make(child: nn.Module) -> nn.Module | None:
        if type(child) is not nn.Conv2d or child.kernel_size != (3, 3) or child.in_channels != CHANNELS:
            return None
        made = copy.deepcopy(child)  # of a different class, as adapters and quantisers make it
        made.__class__ = type("Adapted", (nn.Conv2d,), {"forward": nn.Conv2d.forward})
        for name in ("_forward_hooks", "_forward_pre_hooks"):
            vars(made)[name].clear()
        for name in ("blur_before", "blur_after"):
            made._modules.pop(name, None)
        return made

    return swapped(net, make)


TOOLS: dict[str, Callable[[Any], Any]] = {
    "sync batch norm": nn.SyncBatchNorm.convert_sync_batchnorm,
    "another activation": _other_activation,
    "another convolution": _other_convolution,
    "average of weights": lambda net: torch.optim.swa_utils.AveragedModel(net).eval(),
    "deep copy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "flat batch norm": lambda net: swapped(net, lambda c: nn.Identity() if isinstance(c, nn.BatchNorm2d) else None),
}


def _stated(before: az.Plan, after: az.Plan) -> bool:
    """True if a tool by itself changes which ops can be treated, according to the plans.

    It gives one name of a shared module a copy, or replaces the child of that name but not what a list holds.
    """
    reasons = [site.reason for plan in (before, after) for site in plan.skipped]
    named = any("several times" in reason or "plain list" in reason for reason in reasons)
    return named and len(before.treated) != len(after.treated)


def faults(net: Net, tool: str, size: tuple[int, int]) -> list[str]:
    """The faults of one network; there should be none."""
    shapes = [((3, *size), (3, size[0] + 5, size[1] + 2))]
    try:
        net(torch.randn(1, 3, *size))
    except RuntimeError:
        return []  # its own maps get too small for its padding
    found = list(check("random", lambda: copy.deepcopy(net), shapes).faults)
    # A random network's outputs may not depend on the treated ops: no effect is required.
    found = [fault for fault in found if "too little to prove" not in fault]
    in_graph = {site.name for site in az.plan(net, graph=True).treated}
    by_modules = az.plan(net)
    for site in by_modules.skipped:
        if ("graph=True" in site.reason) != (site.name in in_graph):
            found.append(f"{site.name}: {site.reason!r} is not true of the graph")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        x = torch.randn(1, 3, *size)
        plain = TOOLS[tool](copy.deepcopy(net))
        expected = az.antialias_(plain)(x)
        try:
            output = TOOLS[tool](az.antialias(net))(x)
        except LostBlurError:
            return found
        same = output.shape == expected.shape and torch.allclose(output, expected, rtol=1e-3, atol=1e-4)
        if not same and not _stated(by_modules, az.plan(TOOLS[tool](copy.deepcopy(net)))):
            found.append(f"{tool} after antialias gives other outputs than before it")
    return found


def of_seed(seed: int) -> tuple[Net, str, tuple[int, int]]:
    """A network, a tool and an input size."""
    generator = random.Random(seed)
    torch.manual_seed(seed)
    net = network(lambda options: generator.choice(list(options)))
    return net, generator.choice(list(TOOLS)), (generator.randrange(70, 90), generator.randrange(70, 90))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=positive, help="how many networks")
    parser.add_argument("--first", type=natural, default=0, help="the first seed")
    args = parser.parse_args()
    wrong = 0
    for seed in range(args.first, args.first + args.count):
        try:
            found = faults(*of_seed(seed))
        except Exception as error:
            found = [f"{type(error).__name__}: {error}".splitlines()[0]]
        wrong += bool(found)
        if found:
            print(f"seed {seed}: {'; '.join(found)}", flush=True)
        elif seed % 100 == 99:
            print(f"up to seed {seed}: {wrong} wrong", flush=True)
    print(f"{args.count} networks, {wrong} wrong")
    return bool(wrong)


if __name__ == "__main__":
    run_script(main)
