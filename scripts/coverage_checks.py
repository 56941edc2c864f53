"""Checks of `antialiased_zoo.antialias` on one network; the survey and the tests share them."""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from strided_ops import StridedOp, strided_ops
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves
from torchvision.ops import FrozenBatchNorm2d

import antialiased_zoo as az

TOLERANCE = 1e-5
# The average pools become blurs, so that filter size 1 is an identity only for the others.
IDENTITY_KINDS = ("conv", "maxpool")
Size = tuple[int, ...]


@dataclass
class Coverage:
    """The results for one network.

    Attributes:
        name: The network's name.
        form: "modules", "graph" (if some ops can be treated only in a graph) or "unchanged".
        sizes: Input sizes that it ran at; one if the network accepts no other.
        strided: Number of strided ops in the plan.
        treated: Number of them that get a blur.
        treated_by_modules: Number of them that get one without a graph.
        skipped: Reason -> number of ops skipped for it.
        notes: What the plan could not read.
        seen: Number of strided ops that ran, each module once.
        unread: Those inside a part that the plan states it could not read.
        unlisted: Those that the plan does not name.
        still_striding: Ops that still stride in the antialiased network, contrary to the plan.
        identity: Largest change of the outputs with filter size 1, relative to the largest output; None if nothing is
            treated.
        precision: Dtype of that comparison: "float64" if rounding errors grew too large in float32.
        effect: The same for filter size 4: shows that the outputs depend on the treated ops.
        faults: The checks that failed, in words.
    """

    name: str
    form: str = "modules"
    sizes: list[Size] = field(default_factory=list)
    strided: int = 0
    treated: int = 0
    treated_by_modules: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seen: int = 0
    unread: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    still_striding: list[str] = field(default_factory=list)
    identity: float | None = None
    precision: str = "float32"
    effect: float | None = None
    faults: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """True if all checks passed."""
        return not self.faults


def check(name: str, build: Callable[[], nn.Module], shapes: Sequence[Sequence[Size]]) -> Coverage:
    """Antialias one network and check the result against everything that the transform promises.

    Args:
        name: The network's name in the results.
        build: Builds the network; its weights are randomised.
        shapes: Pairs of input shapes without the batch, then single ones; the first that the network accepts.
    """
    torch.manual_seed(0)
    model = randomised(build().eval())
    found = Coverage(name)
    inputs, ran = _run(model, shapes)
    found.sizes = [tuple(x.shape[2:]) for x in inputs]
    plan = az.plan(model)
    found.treated_by_modules = len(plan.treated)
    in_graph = az.plan(model, graph=True)
    if len(in_graph.treated) > len(plan.treated):
        found.form, plan = "graph", in_graph
    elif not plan.treated:
        found.form = "unchanged"
    outputs, ops = zip(*ran, strict=True)
    _describe(found, model, plan, ops)
    mine = _in_place(found, model)
    if found.form == "unchanged":
        return found
    if found.form == "graph":
        mine = az.antialias(model, graph=True)
        if mine.state_dict().keys() != model.state_dict().keys():
            found.faults.append("state-dict keys changed in the graph")
    _check_strides(found, model, plan, mine, inputs, outputs)
    _check_frozen_norms(found, model, mine, inputs[0])
    _check_identity(found, model, inputs, outputs)
    return found


def randomised(model: nn.Module) -> nn.Module:
    """Randomise biases and scales: many networks initialise branches to (nearly) zero, or so that terms cancel."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.01)
            elif parameter.numel() == max(parameter.shape, default=1):  # a scale per channel
                parameter.uniform_(0.5, 1.5)
    return model


def _calibrate(model: nn.Module, x: Tensor) -> None:
    """Set batch norms to their inputs' scale: in an untrained network the signal would otherwise vanish."""

    def adopt(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        if isinstance(norm.running_var, Tensor):
            power = args[0].square().transpose(0, 1).flatten(1).mean(1)
            # A channel that is zero here may not be zero later.
            norm.running_var.copy_(power.clamp_min(power.mean() / 10))
            norm.running_mean.normal_(0, 0.01)

    hooks = [
        m.register_forward_pre_hook(adopt) for m in model.modules() if isinstance(m, (_BatchNorm, FrozenBatchNorm2d))
    ]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()


def _run(
    model: nn.Module, shapes: Sequence[Sequence[Size]]
) -> tuple[list[Tensor], list[tuple[Any, Counter[StridedOp]]]]:
    """The outputs and strided ops for the first pair of shapes that the network accepts."""
    for index, pair in enumerate(shapes):
        inputs = [torch.randn(1, *shape) for shape in pair]
        try:
            _calibrate(model, inputs[0])
            return inputs, [strided_ops(model, x) for x in inputs]
        except (RuntimeError, AssertionError, ValueError, IndexError, ZeroDivisionError):
            if index == len(shapes) - 1:
                raise
    raise ValueError("no shapes were given")


def _describe(found: Coverage, model: nn.Module, plan: az.Plan, ran: Sequence[Counter[StridedOp]]) -> None:
    found.strided, found.treated = len(plan.sites), len(plan.treated)
    found.skipped = dict(Counter(site.reason for site in plan.skipped))
    found.notes = list(plan.notes)
    ops = set().union(*ran)
    found.seen = len(ops)
    listed = {place for site in plan.sites for place in _places(site, model)}
    unlisted = [op for op in ops if (op.path, op.kind) not in listed]
    unread = [op for op in unlisted if any(_says(note, op.path) for note in plan.notes)]
    found.unread = sorted(str(op) for op in unread)
    found.unlisted = sorted(str(op) for op in unlisted if op not in unread)
    if found.unlisted:
        found.faults.append(f"{len(found.unlisted)} strided ops are not in the plan")
    found.faults += [f"{site.name} is skipped without a reason" for site in plan.skipped if not site.reason]


def _says(note: str, path: str) -> bool:
    """True if a note states that the module at ``path`` was not read."""
    return any(f"{path}.".startswith(f"{about}.") for about in note.split(": ")[0].split(", "))


def _places(site: Any, model: nn.Module) -> list[tuple[str, str]]:
    """All names under which the recorder may see a site: a function belongs to the module that calls it."""
    module = model.get_submodule(site.name.split(":")[0])
    return [(name, site.kind) for name, m in model.named_modules(remove_duplicate=False) if m is module]


def _in_place(found: Coverage, model: nn.Module) -> nn.Module:
    """Antialias a copy that holds the same `Parameter` objects; check what must not change, also in a second call."""
    before, attributes = repr(model), list(vars(model))
    mine = _sharing(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        az.antialias_(mine)
        warned = any("left to antialias" in str(w.message) for w in caught)
        once = repr(mine)
        az.antialias_(mine)
    faults = {
        "the warning that nothing is left comes at the wrong time": warned != (found.treated_by_modules == 0),
        "parameters changed": _identities(mine) != _identities(model),
        "state-dict keys changed": list(mine.state_dict()) != list(model.state_dict()),
        "changed, although there was nothing to treat": warned and once != before,
        "a second call changed it again": repr(mine) != once,
        "the original changed": repr(model) != before or list(vars(model)) != attributes,
    }
    found.faults += [text for text, wrong in faults.items() if wrong]
    return mine


def _sharing(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def _identities(model: nn.Module) -> dict[str, int]:
    return {name: id(parameter) for name, parameter in model.named_parameters(remove_duplicate=False)}


def _check_strides(
    found: Coverage, model: nn.Module, plan: az.Plan, mine: nn.Module, inputs: Sequence[Tensor], outputs: Sequence[Any]
) -> None:
    """Output sizes are unchanged, and the antialiased network strides only where the plan says so."""
    left = [site for site in plan.sites if not site.placement or max(site.keep) > 1]
    kept = {place for site in left for place in _places(site, model)}
    kinds = {kind for _, kind in kept}
    still: set[str] = set()
    found.effect = 0.0
    for x, expected in zip(inputs, outputs, strict=True):
        output, ops = strided_ops(mine, x)
        # A graph's functions run in no module: they are identified only by their kind.
        still |= {str(op) for op in ops if (op.path, op.kind) not in kept and (op.path or op.kind not in kinds)}
        if _shapes(output) != _shapes(expected):
            found.faults.append(f"at {tuple(x.shape[2:])} the shapes are {_shapes(output)}, not {_shapes(expected)}")
        else:
            found.effect = max(found.effect, _difference(output, expected))
    found.still_striding = sorted(still - set(found.unread))
    if found.still_striding:
        found.faults.append(f"{len(found.still_striding)} ops stride that should not")


def _check_identity(found: Coverage, model: nn.Module, inputs: Sequence[Tensor], outputs: Sequence[Any]) -> None:
    """Filter size 1 is an identity, except for average pools, which become blurs."""
    found.identity = _identity(found, model, inputs, outputs)
    if not found.identity <= TOLERANCE:
        # Random networks can be chaotic: they amplify rounding errors, so float64 decides.
        found.precision, model = "float64", model.double()
        inputs = [inputs[0].double()]
        with torch.no_grad():
            outputs = [model(x) for x in inputs]
        found.identity = _identity(found, model, inputs, outputs)
    if not found.identity <= TOLERANCE:
        found.faults.append(f"filter size 1 changes the outputs by {found.identity:.1e}")
    elif (found.effect or 0) <= max(10 * found.identity, TOLERANCE / 10):
        found.faults.append(
            f"filter size 4 changes the outputs by only {found.effect:.1e}, too little to prove a position"
        )


def _check_frozen_norms(found: Coverage, model: nn.Module, mine: nn.Module, x: Tensor) -> None:
    """Frozen batch norms, as in torchvision's pretrained detectors, compute the same as batch norms."""
    if not any(isinstance(module, FrozenBatchNorm2d) for module in model.modules()):
        return
    theirs = az.antialias(_thawed(copy.deepcopy(model)), graph=found.form == "graph")
    with torch.no_grad():
        difference = _difference(mine(x), theirs(x))
    if not difference <= TOLERANCE:
        found.faults.append(f"batch norms in place of frozen ones change the outputs by {difference:.1e}")


def _thawed(model: nn.Module) -> nn.Module:
    thawed: dict[nn.Module, nn.Module] = {}
    # Under all its names: a model may compare two of them with `is`.
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, FrozenBatchNorm2d):
            if module not in thawed:
                norm = thawed[module] = nn.BatchNorm2d(module.weight.numel(), module.eps).eval()
                norm.load_state_dict({**module.state_dict(), "num_batches_tracked": torch.tensor(0)})
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, thawed[module])
    return model


def _identity(found: Coverage, model: nn.Module, inputs: Sequence[Tensor], outputs: Sequence[Any]) -> float:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # there may be only average pools
        options: dict[str, Any] = {"kinds": IDENTITY_KINDS, "graph": found.form == "graph"}
        same = az.antialias(model, 1, **options)
        return max(_difference(same(x), y) for x, y in zip(inputs, outputs, strict=True))


def _shapes(output: Any) -> list[Size]:
    return [tuple(leaf.shape) for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def _difference(output: Any, expected: Any) -> float:
    """Largest difference, relative to the largest expected value; infinite if it is not finite."""
    pairs = zip(tree_leaves(output), tree_leaves(expected), strict=True)
    differences = [
        float((a - b).abs().max() / b.abs().max()) for a, b in pairs if isinstance(b, Tensor) and b.is_floating_point()
    ]
    return max(d if math.isfinite(d) else math.inf for d in differences)
