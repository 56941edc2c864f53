"""The documentation's own lines: they run, and what they show of the package is what it prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torchvision

import antialiased_zoo as az
from antialiased_zoo.weights import manifest
from antialiased_zoo.zoo.published import published_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


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


def test_the_table_of_networks_is_the_manifests() -> None:
    shown = page("networks").partition("<!-- published -->")[2].partition("<!-- /published -->")[0]
    assert shown.strip() == published_table(manifest.load())


def test_the_plan_shown_is_the_plan() -> None:
    plan, costs = re.findall(r"```text\n(.*?)```", page("antialias"), re.DOTALL)
    assert plan.strip() == str(az.plan(torchvision.models.resnet18()))
    totals = az.plan(torchvision.models.resnet18(), input_size=(1, 3, 224, 224)).totals
    assert costs.split() == str(totals).split()


def test_the_readme_is_short_and_runs() -> None:
    assert len(README.split()) <= 900
    assert max(map(len, README.splitlines())) <= 100
    assert "OWNER" not in README
    assert "../shared" not in README
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(block, {})


def test_the_readmes_weights_are_the_manifests() -> None:
    table = README.partition("<!-- weights -->")[2].partition("<!-- /weights -->")[0].strip().splitlines()[2:]
    assert len(table) == 5
    known = manifest.load()
    for row in table:
        name, size, recipe = re.search(r"`(\w+)\((\d), \"(\w+)\"\)`", row).groups()
        _, baseline, antialiased = (cell.strip() for cell in row.split("|")[1:4])
        entry = known.find(name, int(size), recipe)
        if recipe == "cifar10":
            figures = json.loads((ROOT / "results" / "cifar10" / "evaluation" / "results.json").read_text())["models"]
            before, after = (
                {"acc1": f["top1"]["value"], "consistency_crop": f["crop_consistency"]["value"]}
                for f in (figures[label]["figures"] for label in ("baseline", "k4"))
            )
        else:
            before, after = known.baselines[name], entry.metrics
        assert antialiased == shown(after)
        assert baseline in ("", shown(before))
        places = {
            "package:": "the package",
            "hf://": "Hugging Face",
            "https://github.com/hug": "timm on GitHub",
        }
        stated = [place for start, place in places.items() if entry.sources[0].startswith(start)]
        assert (stated or ["the author's host"])[0] in row
        assert ("8 digits" in row) == (stated[:1] != ["the package"] and len(entry.files[0].digest) == 8)


def shown(metrics: Mapping[str, float]) -> str:
    return " / ".join(f"{metrics[key]:.2f}" for key in ("acc1", "consistency_crop") if key in metrics)


def test_the_readmes_costs_are_the_plans() -> None:
    plan = az.plan(torchvision.models.resnet50(), stem_pool="max2", input_size=(1, 3, 224, 224))
    adds, kept = re.findall(r"\(([\d.]+) times\)", str(plan.totals))
    prose = " ".join(README.split())
    assert f"raise multiply-adds by {round(100 * float(adds) - 100)}%" in prose
    assert f"training by {round(100 * float(kept) - 100)}%" in prose


def test_contributing_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{block}"
    subprocess.run([sys.executable, "-c", code], check=True)  # a process of its own: it registers a network


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/antialias.md",
        "docs/architecture.md",
        "docs/networks.md",
        "docs/results.md",
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
