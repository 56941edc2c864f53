"""docs/adapting.md shows the figures that are in results/adapting."""

from __future__ import annotations

import json
from pathlib import Path

import antialiased_zoo as az

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adapting.md").read_text()
FOLDER = ROOT / "results" / "adapting" / "lite0"


def test_the_page_shows_the_recorded_figures_of_the_packaged_pair() -> None:
    unseen, seen = (json.loads((FOLDER / kind / "results.json").read_text())["models"] for kind in ("unseen", "seen"))
    shown = PAGE.partition("<!-- lite0 -->")[2].partition("<!-- /lite0 -->")[0]
    rows = [(label, "figures", "") for label in ("original", "seed-0", "seed-1", "packaged")]
    for label, of, sign in (*rows, ("packaged", "differences", "+")):
        consistency = [unseen[label][of][f"{kind}_consistency"] for kind in ("crop", "circular")]
        agreement = [] if label == "original" or of == "differences" else [unseen[label][of]["top1"]]
        for figure in (*agreement, *consistency, seen[label][of]["top1"]):
            value, low, high = (f"{figure[name]:{sign}.1f}" for name in ("value", "low", "high"))
            assert f"{value} [{low}, {high}]" in shown
    runs = json.loads((FOLDER / "runs.json").read_text())
    assert runs["weights"] == az.get_entry("efficientnet_lite0", 4).file


def test_the_page_shows_the_recorded_filters_and_photos() -> None:
    found, runs = (json.loads((FOLDER / "filters" / name).read_text()) for name in ("results.json", "runs.json"))
    for label, run in runs.items():
        figures = found["models"][label]["figures"]
        cells = [f"{min(entry['divergence'] for entry in run['curve']):.3f}"]
        for name in ("top1", "crop_consistency", "circular_consistency"):
            cells.append("{value:.1f} [{low:.1f}, {high:.1f}]".format(**figures[name]))
        assert f"photos | {' | '.join(cells)} |" in PAGE
