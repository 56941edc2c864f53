"""Names of weights on the command line, such as ``resnet50:lpf3:timm_bt``, and the entries that they stand for."""

from __future__ import annotations

from collections.abc import Collection

from ..weights import TIMM, Entry, Manifest, manifest

SPEC = "NAME[:lpfK or :baseline[:RECIPE]], for example resnet50 or resnet50:lpf3:timm_bt; or timm:NAME"


def find(spec: str) -> Entry:
    """Return the entry that a command line names.

    Raises:
        ValueError: It is invalid, or there is no such entry; the message lists the known ones.
    """
    if spec.startswith(TIMM):
        name, _, recipe = spec.removeprefix(TIMM).partition(":")
        return manifest.load().find(f"{TIMM}{name}", None, recipe or None)
    name, _, rest = spec.partition(":")
    size, _, recipe = rest.partition(":")
    filters = {"": 4, "baseline": None, **{f"lpf{k}": k for k in range(1, 8)}}
    if size not in filters:
        raise ValueError(f"{spec!r} is not valid: expected {SPEC}")
    return manifest.load().find(name, filters[size], recipe or None)


def of_networks(known: Manifest, names: Collection[str]) -> list[Entry]:
    """Return the entries of these networks, or all entries if there are no names.

    Raises:
        ValueError: A network has no entry; the message has similar names.
    """
    for name in names:
        if not known.of_model(name):
            known.find(name, 4)  # raises
    return [entry for entry in known if not names or entry.model in names]


def spec_of(entry: Entry) -> str:
    """Return the spec of an entry, such as ``resnet50:lpf4:finetuned``."""
    if entry.model.startswith(TIMM):
        return f"{entry.model}:{entry.recipe}"
    size = "baseline" if entry.filter_size is None else f"lpf{entry.filter_size}"
    return f"{entry.model}:{size}:{entry.recipe}"
