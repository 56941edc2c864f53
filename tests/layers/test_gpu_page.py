"""The tables of docs/gpu.md show what the record of scripts/benchmark.py holds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "results/benchmark/gpu/h100.jsonl"
OURS, PLAIN, PEER = "antialiased-zoo", "antialiased-zoo, torch's operators", "antialiased-cnns"
MODES = ("forward", "backward")
AIMS = {"NCHW": {"forward": 0.7, "backward": 0.7}, "channels-last": {"forward": 0.8, "backward": 0.7}}
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
            ways = [(layouts[layout], mode) for layout in ("channels-last", "NCHW") for mode in MODES]
            yield f"| {name} | {' | '.join(f'{share(record, mode):.0%}' for record, mode in ways)} |"


def share(record: dict[str, Any], mode: str) -> float:
    return float(record[mode]["share of the copy's speed"][OURS])


def test_the_tables_show_the_record() -> None:
    page = (ROOT / "docs/gpu.md").read_text().splitlines()
    rows = [*network_rows(), *layer_rows()]
    assert len(rows) > 20
    assert [row for row in rows if row not in page] == []


def read(name: str) -> str:
    return " ".join((ROOT / name).read_text().split())


def span(values: Iterable[float], form: str) -> str:
    """From the least to the greatest."""
    return f"{min(values := list(values)):{form}} to {max(values):{form}}"


def test_the_sentences_say_what_the_record_holds() -> None:
    layers = [record for record in records() if record["case"].startswith("layer")]
    page = read("docs/gpu.md")
    plain = {mode: [record[mode]["share of the copy's speed"][PLAIN] for record in layers] for mode in MODES}
    assert f"torch's operators reach {span(plain['forward'], '.0%')} forward" in page
    assert f"{span(plain['backward'], '.0%')} backward" in page
    small = [record["forward"] for record in records() if record["case"].startswith("small")]
    assert f"{span((each[OURS] for each in small), '.0f')} microseconds forward" in page
    assert f"torch's operators {span((each[PLAIN] for each in small), '.0f')}. With" in page
    last = [record for record in layers if "channels-last" in record["case"] and record["MB"] > 100]
    least = min(share(record, mode) for record in last for mode in MODES)
    assert f"{least:.0%} or more of the speed of a copy in channels-last, for maps above 100 MB" in read("CHANGELOG.md")


def test_the_page_names_the_maps_that_miss_the_aim() -> None:
    missed: dict[str, set[str]] = {layout: set() for layout in AIMS}
    for record in records():
        found = re.match(r"layer \(128, (.*)\), (NCHW|channels-last)", record["case"])
        if found and record["MB"] > 32 and any(share(record, mode) < AIMS[found[2]][mode] for mode in MODES):
            missed[found[2]].add(found[1])
    items = [line for line in (ROOT / "docs/gpu.md").read_text().splitlines() if line.startswith("- in ")]
    assert {item.split()[2].strip(","): set(re.findall(r"\((.*?)\)", item)) for item in items} == missed


def test_other_pages_say_what_the_record_holds() -> None:
    found = {record["case"]: record for record in records()}
    nets = [found[f"{name}, training, channels-last, eager, batch 128"] for name in NAMES]
    faster = [net[PLAIN]["ms"] / net[OURS]["ms"] for net in nets]
    changes = read("CHANGELOG.md")
    assert f"ResNet-18 trains {faster[0]:.2f} times as fast" in changes
    assert f"ResNet-50 {faster[1]:.2f} times" in changes
    (ours18, plain18), (ours50, plain50) = (
        [net["time beside torchvision's"][who] for who in (OURS, PLAIN)] for net in nets
    )
    speed = read("docs/speed.md")
    assert f"takes {ours18:.2f} times as long as the plain network's, and {plain18:.2f} times with" in speed
    assert f"ResNet-50's {ours50:.2f} and {plain50:.2f} times" in speed


def test_the_kernel_is_faster_than_torchs_operators() -> None:
    """The reason why it is the default."""
    for record in records():
        for mode in MODES:
            if record["case"].startswith("layer"):
                assert record[mode][OURS]["ms"] < record[mode][PLAIN]["ms"]
