"""The tables of docs/gpu.md show what the record of scripts/benchmark.py holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "results/benchmark/gpu/h100.jsonl"
OURS, PLAIN, PEER = "antialiased-zoo", "antialiased-zoo, torch's operators", "antialiased-cnns"
NAMES = {"resnet18": "ResNet-18", "resnet50": "ResNet-50"}


def records() -> Iterator[dict[str, Any]]:
    yield from map(json.loads, RECORD.read_text().splitlines())


def network_rows() -> Iterator[str]:
    """Milliseconds of torchvision's network and ours; then times beside torchvision's."""
    for record in records():
        times = record.get("time beside torchvision's")
        if times:
            name, *what, _ = record["case"].split(", ")
            others = [times.get(who) for who in (PLAIN, PEER)]
            others.append(next((time for who, time in times.items() if who.startswith("timm")), None))
            cells = [", ".join([NAMES[name], *what])]
            cells += [f"{record[who]['ms']:.1f}" for who in ("torchvision", OURS)]
            cells += [f"**{times[OURS]:.2f}**", *(f"{time:.2f}" if time else "" for time in others)]
            yield f"| {' | '.join(cells)} |"


def layer_rows() -> Iterator[str]:
    """Shares of the copy's speed, in channels-last forward and backward, then in NCHW."""
    layers: dict[str, dict[str, Any]] = {}
    for record in records():
        if record["case"].startswith("layer"):
            shape, rest = record["case"].removeprefix("layer ").split("), ")
            layout, _, dtype = rest.partition(", ")
            layers.setdefault(f"{shape})" + (f", {dtype}" if dtype else ""), {})[layout] = record
    for name, layouts in layers.items():
        if len(layouts) == 2:
            ways = [(layouts[layout], mode) for layout in ("channels-last", "NCHW") for mode in ("forward", "backward")]
            yield f"| {name} | {' | '.join(f'{share(record, mode):.0%}' for record, mode in ways)} |"


def share(record: dict[str, Any], mode: str) -> float:
    return float(record[mode]["share of the copy's speed"][OURS])


def test_the_tables_show_the_record() -> None:
    page = (ROOT / "docs/gpu.md").read_text().splitlines()
    rows = [*network_rows(), *layer_rows()]
    assert len(rows) > 20
    assert [row for row in rows if row not in page] == []


def test_the_kernel_is_faster_than_torchs_operators() -> None:
    """The reason why it is the default."""
    for record in records():
        for mode in ("forward", "backward"):
            if record["case"].startswith("layer"):
                assert record[mode][OURS]["ms"] < record[mode][PLAIN]["ms"]
