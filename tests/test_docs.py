"""The documentation's own lines: they run, and what they show of the package is what it prints."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torchvision

import antialiased_zoo as az
from antialiased_zoo.weights import manifest
from antialiased_zoo.zoo.published import published_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_coming_from_runs() -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "coming-from.md").read_text(), re.DOTALL)
    assert len(blocks) >= 10
    for block in blocks:
        exec(block, names)
    assert names["composer_like"].layer2[0].conv1.stride == (2, 2)
    assert names["as_in_the_paper"].layer2[0].conv1.stride == (1, 1)


def test_layers_runs_and_shows_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "layers.md").read_text()
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    shown = capsys.readouterr().out.splitlines()
    assert f"# {shown[0]}\n" in page
    assert shown[1] == str(tuple(n / 9 for n in (1, 2, 3, 2, 1)))
    listed = set(re.findall(r"`(\w+)`", page.partition("| --- |")[2].partition("\n\n")[0]))
    family = {name for name in az.__all__ if re.search("Downsample|Blur|blur_", name)}
    assert family <= listed


def test_the_alias_energies_are_measured() -> None:
    page = (ROOT / "docs" / "layers.md").read_text()
    rows = page.partition("<!-- alias -->")[2].partition("<!-- /alias -->")[0].strip().splitlines()[2:]
    assert len(rows) == 7
    for filt_size, row in enumerate(rows, start=1):
        cells = [f"{100 * az.alias_energy(filt_size, 2):.1f}"]
        for stride in (3, 4, 8):
            plain, wide = az.alias_energy(filt_size, stride), az.alias_energy(az.wide_taps(filt_size, stride), stride)
            cells.append(f"{100 * plain:.1f} → {100 * wide:.1f}")
        assert row == f"| {filt_size} | {' | '.join(cells)} |"


def test_adapting_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "adapting.md").read_text(), re.DOTALL)
    exec(block, {})


def test_the_readmes_table_is_the_manifests() -> None:
    shown = README.partition("<!-- published -->")[2].partition("<!-- /published -->")[0]
    assert shown.strip() == published_table(manifest.load())


def test_the_readmes_speed_is_the_benchmarks() -> None:
    shown = README.partition("<!-- speed -->")[2].partition("<!-- /speed -->")[0].strip()
    assert len(shown.splitlines()) == 12  # a head of two lines, nine networks, their mean
    assert shown in (ROOT / "results" / "benchmark" / "networks.md").read_text()


BATCH_MEANS = {  # what a sentence says of each record's last table of times
    "networks.md": "geometric means over antialiased-cnns {} and",
    "one_process/networks.md": "there the mean over antialiased-cnns is {}.",
    "training.md": "takes antialiased-cnns {} times as long",
    "one_process/training.md": "(in one process {})",
    "compiled/networks.md": "compiled inference {} times",
    "one_process/compiled/networks.md": "times ({}; geometric means",
}


@pytest.mark.parametrize("record", BATCH_MEANS)
def test_the_means_in_sentences_are_the_benchmarks(record: str) -> None:
    text = (ROOT / "results" / "benchmark" / record).read_text()
    times = [table for table in text.split("###")[1:] if "batch 8" in table.splitlines()[0]]
    mean = re.search(r"geometric mean\*\* \| \| \*\*([\d.]+)", times[-1])
    assert mean
    prose = " ".join(f"{README} {(ROOT / 'docs' / 'speed.md').read_text()}".split())
    assert BATCH_MEANS[record].format(mean[1]) in prose


def test_the_speed_pages_table_is_the_benchmarks() -> None:
    def cells(record: str) -> dict[str, str]:
        rows = json.loads((ROOT / "results" / "benchmark" / record).read_text())["rows"]
        return {
            row["case"]: "{:.0f} ({:.2f}, {:.2f})".format(
                row["medians"]["antialiased-zoo"],
                row["ratios"]["antialiased-cnns"][1],
                row["ratios"]["torchvision"][1],
            )
            for row in rows
            if row["table"].endswith("batch 8")
        }

    apart, together = cells("networks.json"), cells("one_process/networks.json")
    assert len(apart) == 9
    page = (ROOT / "docs" / "speed.md").read_text()
    assert "\n".join(f"| {name} | {apart[name]} | {together[name]} |" for name in apart) in page


def test_the_readmes_plan_is_the_plan() -> None:
    shown = re.search(r"```text\n(op .*?)```", README, re.DOTALL)
    assert shown
    assert shown[1].strip() == str(az.plan(torchvision.models.resnet18()))
    costs = re.search(r"```text\n(input .*?)```", README, re.DOTALL)
    assert costs
    assert costs[1].split() == str(az.plan(torchvision.models.resnet18(), input_size=(1, 3, 224, 224)).totals).split()


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/adapting.md",
        "docs/coming-from.md",
        "docs/layers.md",
        "docs/weights.md",
        "docs/metrics.md",
        "docs/speed.md",
        "scripts/README.md",
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target
