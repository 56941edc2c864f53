"""The documentation's own lines: they run, and what they show of the package is what it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torchvision

import antialiased_zoo as az
from antialiased_zoo import manifest
from antialiased_zoo.published import table

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


def test_the_readmes_table_is_the_manifests() -> None:
    shown = README.partition("<!-- published -->")[2].partition("<!-- /published -->")[0]
    assert shown.strip() == table(manifest.load())


def test_the_readmes_plan_is_the_plan() -> None:
    shown = re.search(r"```text\n(op .*?)```", README, re.DOTALL)
    assert shown
    assert shown[1].strip() == str(az.plan(torchvision.models.resnet18()))
    costs = re.search(r"```text\n(input .*?)```", README, re.DOTALL)
    assert costs
    assert costs[1].split() == str(az.plan(torchvision.models.resnet18(), input_size=(1, 3, 224, 224)).totals).split()


@pytest.mark.parametrize(
    "page", ["README.md", "docs/coming-from.md", "docs/weights.md", "docs/metrics.md", "scripts/README.md"]
)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target
