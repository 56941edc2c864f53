"""Matches the tensors of a file to a model's, by names and shapes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from ...errors import TensorMismatchError

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
COUNTER = "num_batches_tracked"
# Attributes in which DDP, torch.compile, averaged models and most Lightning modules hold a network.
_WRAPPERS = frozenset(("module", "_orig_mod", "model", "net", "network", "backbone", "encoder", "_forward_module"))
# Before torchvision 0.2.2, DenseNet's `norm1.weight` was `norm.1.weight`.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def match(found: Shapes, wanted: Shapes, omit: Sequence[str] = ()) -> dict[str, str]:
    """Find the file's tensor for each of the model's.

    Blur filters (``filt``) are dropped, DenseNet's old names are modernised, and the prefixes of
    wrappers (``module.``, ``_orig_mod.``, a Lightning module's ``model.``) are removed. If all
    names are then torchvision's, they are matched by name. Otherwise the file is assumed to be of a
    published network, whose blur layers shift the numbers inside ``Sequential``: tensors are
    matched by order, and each pair must agree in shape and in every part of its name except the
    numbers.

    Args:
        found: Shapes by name in the file, in its order.
        wanted: Shapes by name in the model, in its order.
        omit: Name prefixes, such as a head's, of tensors whose shapes may differ.

    Returns:
        The file's name for each of the model's. ``num_batches_tracked`` is missing if the file does
        not have it (PyTorch before 0.4.1 did not).

    Raises:
        TensorMismatchError: A tensor is missing, unexpected or of another shape; the message names
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
                f"tensor {clean[other]!r} has shape {list(found[clean[other]])}, but the model's {name!r} has "
                f"{list(wanted[name])}"
            )
    pairs |= _counters(pairs, clean, wanted)
    return {name: clean[other] for name, other in pairs.items()}


def _clean(found: Shapes, wanted: Iterable[str]) -> dict[str, str]:
    """Return the file's names, without the blur filters, by their modern form."""
    names = [name for name in found if name.rpartition(".")[2] not in ("filt", "n_averaged")]
    prefix = wrapper_prefix(names, wanted)
    clean = {_OLD_DENSENET.sub(r"\1\2.", name.removeprefix(prefix)): name for name in names}
    if len(clean) != len(names):
        raise TensorMismatchError("two tensors in the file have equivalent names")
    return clean


def wrapper_prefix(names: Iterable[str], wanted: Iterable[str]) -> str:
    """Return the prefix that wrappers (DDP, ``torch.compile``, Lightning, an average) add to all names, or ``""``.

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
    if prefixes := _prefixes(found, wanted):
        raise TensorMismatchError(
            f"all tensors of the model are in the file under {' and under '.join(map(repr, prefixes))}, but others are "
            "too, such as a loss's, a metric's or a second network's: keep one network's tensors only, for example "
            "{name.removeprefix(%r): tensor for name, tensor in state.items() if name.startswith(%r)}"
            % (prefixes[0], prefixes[0])
        )
    if len(found) != len(wanted) or not _ascending(found):
        raise TensorMismatchError(_difference(missing, extra))
    for name, other in zip(wanted, found, strict=True):
        if _words(name) != _words(other):
            where = f"tensor {other!r} is at the position of the model's {name!r}"
            raise TensorMismatchError(f"{where}; {_difference(missing, extra)}")
    return dict(zip(wanted, found, strict=True))


def _prefixes(found: list[str], wanted: list[str]) -> list[str]:
    """The prefixes under which a file has all tensors of the model, where it has others, too."""
    if not 0 < len(wanted) < len(found):
        return []
    there, first = set(found), wanted[0]
    starts = [name.removesuffix(first) for name in found if name.endswith(f".{first}")]
    return [start for start in starts if there.issuperset(f"{start}{name}" for name in wanted)]


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
    """True if the numbers in the names ascend: a file sorted as text has 10 before 9, so its order means nothing."""
    for before, after in itertools.pairwise(names):
        one, two = before.split("."), after.split(".")
        at = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), None)
        if at is not None and one[at].isdigit() and two[at].isdigit() and int(one[at]) > int(two[at]):
            return False
    return True


def _counters(pairs: Mapping[str, str], clean: Mapping[str, str], wanted: Shapes) -> dict[str, str]:
    """Return the batch counters, each matched like the running mean of its norm."""
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
