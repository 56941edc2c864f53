"""The files that ``antialiased-zoo adapt`` writes: weights, their record, a card and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn

from ..evaluation import Evaluation, protocol_for, shift_curves, with_room
from ..metrics import diagonal_stability
from ..training import RunFolder, manifest_entry, versions
from ..weights import Preprocessing

_MEASURES = ("agreement", "crop_consistency", "circular_consistency", "wobble")


def write(
    out: Path,
    stages: Mapping[str, nn.Module],
    found: Evaluation,
    entry: dict[str, Any],
    data: dict[str, Any],
    preprocessing: Preprocessing,
) -> str:
    """Write weights, record and card; return the card's table and the path of the weights.

    Args:
        out: The folder.
        stages: The networks; the weights of ``after`` are written.
        found: Their figures.
        entry: The manifest entry, without the file's name, size and digest.
        data: Numbers of photos, for the record.
        preprocessing: The network's preprocessing, for the record in the weights.
    """
    name = f"{entry['model']}_lpf{entry['filter_size']}_{entry['recipe']}"
    facts = {name: entry[name] for name in ("num_classes", "dataset")}
    facts["classes"] = entry["classes"] and tuple(entry["classes"])
    run = RunFolder(out)
    file = run.save_weights(stages["after"].state_dict(), name, preprocessing, **facts)
    figures = {stage: found.figures(stage) for stage in stages}
    changes = {s: {k: v.as_dict() for k, v in found.differences(s, "before").items()} for s in stages if s != "before"}
    record = {"entry": manifest_entry(file, entry), "figures": figures, "differences": changes}
    curve = (run.read_checkpoint() or {}).get("log")
    run.save_record({**record, "curve": curve, "versions": versions(), "data": data}, file)
    table = _table(figures, changes)
    title = f"{entry['model']}, filter size {entry['filter_size']}, distilled without labels"
    (out / "card.md").write_text(f"# {title}\n\n{table}\n\n`{entry['command']}`\n", encoding="utf-8")
    return f"{table}\nweights: {file}"


def _table(figures: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    rows = ["| | " + " | ".join(_MEASURES) + " |", "| --- " * (len(_MEASURES) + 1) + "|"]
    for stage, of in figures.items():
        named = {**of, "agreement": of["top1"]}
        rows.append(f"| {stage} | " + " | ".join(f"{named[key]['value']:.2f}" for key in _MEASURES) + " |")
    rows.append("")
    for key in ("crop_consistency", "circular_consistency"):
        change = changes["after"][key]
        rows.append(f"* {key}, after - before: {change['value']:+.2f} [{change['low']:+.2f}, {change['high']:+.2f}]")
    return "\n".join(rows)


def draw(stages: Mapping[str, nn.Module], photo: Image.Image, preprocessing: Preprocessing, path: Path) -> None:
    """Draw a photo's stability before and after, if matplotlib is installed."""
    if find_spec("matplotlib") is None:
        return
    protocol = protocol_for(with_room(preprocessing))
    device = next(stages["after"].parameters()).device
    canvas = protocol.padded(protocol.prepare(photo)[None]).to(device)
    shifts, top = protocol.diagonal_offsets, None
    curves = {}
    for stage in ("before", "after"):
        found = diagonal_stability(stages[stage], canvas, top, protocol.size, shifts)
        top = int(found.prediction[0, len(shifts) // 2]) if top is None else top
        curves[stage] = (shifts, found.probability[0])
    shift_curves(curves, photo=photo).savefig(path, dpi=120)
