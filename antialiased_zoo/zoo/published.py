"""The table of every network's published figures, baseline and antialiased, as shown in the README."""

from __future__ import annotations

from collections.abc import Mapping

from ..weights import Manifest
from .registry import ARCHITECTURES

_SCRATCH = (("Rect-2", 2, "scratch"), ("Tri-3", 3, "scratch"), ("Tri-4", 4, "scratch"), ("Bin-5", 5, "scratch"))
_COLUMNS = (*_SCRATCH, ("Tri-4, fine-tuned", 4, "finetuned"))


def published_table(manifest: Manifest) -> str:
    """A Markdown table of ImageNet top-1 accuracy / crop consistency in percent, one row for each network.

    Args:
        manifest: The manifest with the figures.

    Example:
        >>> from antialiased_zoo.weights import manifest
        >>> "| `resnet50` | 76.16 / 89.20 |" in published_table(manifest.load())
        True
    """
    lines = ["| network | baseline | " + " | ".join(title for title, _, _ in _COLUMNS) + " |"]
    lines.append("| --- " * (len(_COLUMNS) + 2) + "|")
    found = {entry.key: entry.metrics for entry in manifest}
    for name in (name for name in ARCHITECTURES if name in manifest.baselines):
        cells = [_cell(manifest.baselines.get(name, {}))]
        cells += [_cell(found.get((name, filter_size, recipe), {})) for _, filter_size, recipe in _COLUMNS]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(metrics: Mapping[str, float]) -> str:
    return f"{metrics['acc1']:.2f} / {metrics['consistency_crop']:.2f}" if "consistency_crop" in metrics else ""
