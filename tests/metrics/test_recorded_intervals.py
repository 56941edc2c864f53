"""The intervals in results/ and in the pages' tables are those of the formulas that docs/metrics.md states."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import beta

ROOT = Path(__file__).parents[2]
SHARES = ("top1", "top5", "crop_consistency", "circular_consistency", "worst_shift_top1")
RECORDS = [path for path in sorted(ROOT.glob("results/**/*.json")) if '"crop_consistency"' in path.read_text()]
TABLES = {
    "results/cifar10/evaluation": {
        "baseline": "`mobilenet_v2(filter_size=None)`",
        "k4": "`mobilenet_v2(filter_size=4)`",
    },
    "results/cifar10_filters/evaluation": {
        "baseline": "none (baseline)",
        **{f"lpf{size}": f"{size} ({name})" for size, name in enumerate(("Rect-2", "Tri-3", "Tri-4", "Bin-5"), 2)},
    },
}


def shares(found: Any) -> Iterator[dict[str, Any]]:
    """The figures with one trial per image."""
    for name, value in found.items() if isinstance(found, dict) else ():
        if name in SHARES and isinstance(value, dict) and "low" in value and len(value.get("each", [0])) == 1:
            yield value
        elif not name.startswith("difference"):
            yield from shares(value)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: str(path.relative_to(ROOT / "results")))
def test_recorded_shares_have_exact_intervals(path: Path) -> None:
    for figure in shares(json.loads(path.read_text())):
        count, hits = figure["n"], round(figure["value"] * figure["n"] / 100)
        assert hits == pytest.approx(figure["value"] * count / 100, abs=1e-6)
        low = beta.ppf(0.025, hits, count - hits + 1) if hits else 0
        high = beta.ppf(0.975, hits + 1, count - hits) if hits < count else 1
        assert [figure["low"], figure["high"]] == pytest.approx([100 * low, 100 * high], abs=1e-6)


@pytest.mark.parametrize("folder", TABLES)
def test_the_page_of_results_shows_the_records(folder: str) -> None:
    page = (ROOT / "docs" / "results.md").read_text()
    models = json.loads((ROOT / folder / "results.json").read_text())["models"]
    assert set(models) == set(TABLES[folder])
    for label, name in TABLES[folder].items():
        figures = [models[label]["figures"][figure] for figure in ("top1", "crop_consistency", "circular_consistency")]
        cells = ["{value:.2f} [{low:.2f}, {high:.2f}]".format(**figure) for figure in figures]
        assert f"| {' | '.join([name, *cells])} |" in page
        assert f"| {' | '.join(cells[1:])} |" in (ROOT / folder / "table.md").read_text()


def test_the_pages_differences_are_the_records() -> None:
    page = " ".join((ROOT / "docs" / "results.md").read_text().split())
    changes = json.loads((ROOT / "results/cifar10/evaluation/results.json").read_text())["models"]["k4"]["differences"]
    for name in ("top1", "crop_consistency", "circular_consistency"):
        assert "{value:.2f} [{low:.2f}, {high:.2f}]".format(**changes[name]) in page
