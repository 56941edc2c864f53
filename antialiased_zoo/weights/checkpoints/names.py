"""The names of a file's tensors -> torchvision's, decided from names and shapes alone."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from ...errors import TensorMismatchError

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
COUNTER = "num_batches_tracked"
# Attributes under which DDP, torch.compile, averages and most Lightning modules hold a network.
_WRAPPERS = frozenset(("module", "_orig_mod", "model", "net", "network", "backbone", "encoder", "_forward_module"))
# DenseNet before torchvision 0.2.2 wrote `norm.1.weight` where `norm1.weight` is written since.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def match(found: Shapes, wanted: Shapes, omit: Sequence[str] = ()) -> dict[str, str]:
    """Find for each wanted tensor the one in the file that belongs there.

    Blur filters (``filt``), DenseNet's old names and the prefixes of wrappers (``module.``,
    ``_orig_mod.``, a Lightning module's ``model.``) are understood. Names that are all
    torchvision's are taken as they are. Otherwise the file is taken for one of the published
    networks, whose blur layers shift the numbers inside ``Sequential``: then tensors go by their
    order, and each pair must agree in shape and in every part of its name but the numbers.

    Args:
        found: shapes by name in the file, in its order.
        wanted: shapes by name in the model, in its order.
        omit: beginnings of names, such as a head's, whose shapes may differ.

    Returns:
        The file's name for each of the model's. Where ``num_batches_tracked`` is missing from the
        file (PyTorch before 0.4.1 had none), it is missing here.

    Raises:
        TensorMismatchError: a tensor is missing, left over or of another shape; the message names
            it.

    Example:
        >>> match({"features.4.weight": (8, 3)}, {"features.3.weight": (8, 3)})
        {'features.3.weight': 'features.4.weight'}
    """
    clean = _clean(found, wanted)
    if set(_counted(clean)) == set(_counted(wanted)):
        pairs = {name: name for name in _counted(wanted)}
    else:
        pairs = _by_order(list(_counted(clean)), list(_counted(wanted)))
    kept = tuple(omit)
    for name, other in pairs.items():
        if found[clean[other]] != wanted[name] and not name.startswith(kept):
            raise TensorMismatchError(
                f"tensor {clean[other]!r} has shape {list(found[clean[other]])}, the model's {name!r} has "
                f"{list(wanted[name])}"
            )
    pairs |= _counters(pairs, clean, wanted)
    return {name: clean[other] for name, other in pairs.items()}


def _clean(found: Shapes, wanted: Iterable[str]) -> dict[str, str]:
    """Return the file's names by their modern form, without the blur filters."""
    names = [name for name in found if name.rpartition(".")[2] not in ("filt", "n_averaged")]
    prefix = wrapper_prefix(names, wanted)
    clean = {_OLD_DENSENET.sub(r"\1\2.", name.removeprefix(prefix)): name for name in names}
    if len(clean) != len(names):
        raise TensorMismatchError("two tensors in the file have names that mean the same")
    return clean


def wrapper_prefix(names: Iterable[str], wanted: Iterable[str]) -> str:
    """Return what wrappers (DDP, ``torch.compile``, Lightning, an average) put before all names, ``""`` if nothing.

    Example:
        >>> wrapper_prefix(["module._orig_mod.fc.weight", "module._orig_mod.fc.bias"], ["fc.weight"])
        'module._orig_mod.'
    """
    own = {name.partition(".")[0] for name in wanted}
    names, prefix = list(names), ""
    while names:
        first = {name.partition(".")[0] for name in names}
        if len(first) > 1 or first & own or not first <= _WRAPPERS:
            break
        prefix += f"{first.pop()}."
        names = [name.partition(".")[2] for name in names]
    return prefix


def _counted(names: Mapping[str, object]) -> list[str]:
    return [name for name in names if not name.endswith(COUNTER)]


def _by_order(found: list[str], wanted: list[str]) -> dict[str, str]:
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if len(found) != len(wanted) or not _ascending(found):
        raise TensorMismatchError(_difference(missing, extra))
    for name, other in zip(wanted, found, strict=True):
        if _words(name) != _words(other):
            where = f"tensor {other!r} stands where the model has {name!r}"
            raise TensorMismatchError(f"{where}; {_difference(missing, extra)}")
    return dict(zip(wanted, found, strict=True))


def _difference(missing: list[str], extra: list[str]) -> str:
    parts = []
    for what, names in (("missing from the file", missing), ("not in the model", extra)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            parts.append(f"{what}: {', '.join(names[:5])}{more}")
    return "; ".join(parts) or "the file's tensors are in another order than the model's"


def _words(name: str) -> list[str]:
    return [part for part in name.split(".") if not part.isdigit()]


def _ascending(names: list[str]) -> bool:
    """Tell whether numbered parts only grow: a file sorted by text would put 10 before 9, and mix tensors up."""
    for before, after in itertools.pairwise(names):
        one, two = before.split("."), after.split(".")
        at = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), None)
        if at is not None and one[at].isdigit() and two[at].isdigit() and int(one[at]) > int(two[at]):
            return False
    return True


def _counters(pairs: Mapping[str, str], clean: Mapping[str, str], wanted: Shapes) -> dict[str, str]:
    """Return the batch counters, which go with the running mean beside them."""
    mean = "running_mean"
    counters = {
        name.removesuffix(mean) + COUNTER: other.removesuffix(mean) + COUNTER
        for name, other in pairs.items()
        if name.endswith(mean)
    }
    left = {name for name in clean if name.endswith(COUNTER)} - set(counters.values())
    if left:
        raise TensorMismatchError(_difference([], sorted(left)))
    return {name: other for name, other in counters.items() if name in wanted and other in clean}
