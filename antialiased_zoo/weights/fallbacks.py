"""Suggestions of other weights if no source provides the requested ones."""

from __future__ import annotations

from urllib.parse import urlsplit

from ..errors import FetchError
from . import hub, manifest
from .entry import TIMM, Entry


def alternatives(entry: Entry) -> str:
    """List alternatives to an entry that no source provides: local weights, other hosts, the baseline.

    Example:
        >>> "timm_bt" in alternatives(manifest.load().find("resnet50", 4))
        True
    """
    others = [other for other in manifest.load() if other is not entry]
    hosts = _hosts(entry)
    lines = [f"  {call_of(other)}  # on this machine" for other in others if _is_here(other)]
    lines += [
        f"  {call_of(other)}  # from {', '.join(sorted(_hosts(other)))}"
        for other in others
        if other.model == entry.model and not _is_here(other) and _hosts(other) - hosts
    ]
    if entry.filter_size is not None and entry.dataset == "ImageNet-1k":
        lines.append(
            f'  az.{entry.model}(filter_size={entry.filter_size}, pretrained="torchvision")  '
            "# from download.pytorch.org; fine-tune or adapt it: docs/adapting.md"
        )
    doctor = f"`antialiased-zoo doctor {entry.model}` checks every source."
    return "\n".join(["Available instead:", *lines, doctor] if lines else [doctor])


def call_of(entry: Entry) -> str:
    """Return the call that makes the entry's network with its weights."""
    if entry.model.startswith(TIMM):
        return f'az.create_model("{entry.model}", pretrained="{entry.recipe}")'
    return f'az.{entry.model}(filter_size={entry.filter_size}, pretrained="{entry.recipe}")'


def _hosts(entry: Entry) -> set[str]:
    places = (urlsplit(source) for source in entry.sources)
    return {"huggingface.co" if place.scheme == "hf" else place.hostname or place.scheme for place in places}


def _is_here(entry: Entry) -> bool:
    try:
        return hub.cached(entry) is not None
    except FetchError:
        return False
