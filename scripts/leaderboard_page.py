"""Write a leaderboard's table and picture into a page; `scripts/leaderboard.py --page` does it after measuring.

python scripts/leaderboard_page.py results/leaderboard/imagenet.csv scripts/leaderboard_models.txt docs/leaderboard.md

The table of ``NAME.csv`` goes between ``<!-- leaderboard NAME -->`` and ``<!-- /leaderboard NAME -->``, and its picture
into the folder ``pictures`` next to the page.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from running import run_script

from antialiased_zoo.evaluation import plots
from antialiased_zoo.evaluation.text_file import read_text_file

MEASURES = ("top1", "crop_consistency", "circular_consistency", "worst_shift_top1", "wobble")
SPEED = "images_per_second"
Row = dict[str, str]
_FIGURES = {
    "top1": "top-1",
    "crop_consistency": "crop consistency",
    "circular_consistency": "circular consistency",
    "worst_shift_top1": "worst-shift top-1",
    "wobble": "wobble",
    SPEED: "images/s",
}


@dataclass(frozen=True)
class Listed:
    """A line of a models file: a spec, the heading above it, and the licence after it."""

    spec: str
    group: str
    licence: str


def read_models(path: Path) -> list[Listed]:
    """Read a models file.

    Args:
        path: Each line is a spec as for `scripts/evaluate.py`, optionally followed by the weights' licence; a line
            ``[KIND]`` is the heading of the lines below it; ``#`` starts a comment.

    Raises:
        ValueError: If a line has more words, or the same spec occurs twice.
    """
    found: dict[str, Listed] = {}
    group = ""
    for line in read_text_file(path).splitlines():
        words = line.partition("#")[0].split()
        if len(words) == 1 and words[0].startswith("[") and words[0].endswith("]"):
            group = words[0][1:-1]
        elif words:
            if len(words) > 2 or words[0] in found:
                raise ValueError(f"{path}: {line.strip()!r} is not a new model, optionally followed by a licence")
            found[words[0]] = Listed(words[0], group, words[1] if len(words) == 2 else "")
    return list(found.values())


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, help in (("results", "the CSV"), ("models", "the models file"), ("page", "the page to change")):
        parser.add_argument(name, type=Path, help=help)
    args = parser.parse_args(argv)
    write(args.results, args.models, args.page)


def write(results: Path, models: Path, page: Path) -> None:
    """Replace the text between the page's markers of these results, and the picture next to the page.

    Raises:
        ValueError: If the page has no such markers, or the rows are not comparable.
    """
    with open(results, newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: -float(row["crop_consistency"]))
    if len({row["model"] for row in rows}) < len(rows):
        raise ValueError(f"{results} has two networks with the same label: name them apart with LABEL=SPEC")
    name, text = results.stem, page.read_text(encoding="utf-8")
    place = re.compile(rf"(?<=<!-- leaderboard {re.escape(name)} -->\n).*?(?=<!-- /leaderboard)", re.DOTALL)
    if not place.search(text):
        raise ValueError(f"{page} has no <!-- leaderboard {name} --> and <!-- /leaderboard {name} -->")
    picture = page.parent / "pictures" / f"leaderboard_{name}.png"
    picture.parent.mkdir(exist_ok=True)
    parts = [note(rows), table(rows), f"![Top-1 accuracy against crop consistency](pictures/{picture.name})"]
    parts.append(missing(rows, read_models(models), models.name))
    body = "\n\n".join(parts)
    draw(rows, picture)
    page.write_text(place.sub(lambda _: f"\n{body}\n\n", text), encoding="utf-8")


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, without columns that are empty in all rows.

    Example:
        >>> row = {"model": "a", "group": "plain", "parameters": "1500000", "multiply_adds": "2000000000"}
        >>> row |= {"licence": "", "digest": "0123456789", "top1": "50.0", "top1_low": "1.3", "top1_high": "98.7"}
        >>> print(table([row]))
        | network | kind | top-1 | parameters (M) | multiply-adds (G) | licence | digest |
        | --- | --- | --- | --- | --- | --- | --- |
        | `a` | plain | 50.0 [1.3, 98.7] | 1.5 | 2.00 | not stated | `01234567` |
    """
    figures = [name for name in _FIGURES if any(row.get(name) for row in rows)]
    titles = [_FIGURES[name] for name in figures]
    head = ["network", "kind", *titles, "parameters (M)", "multiply-adds (G)", "licence", "digest"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        size = f"{int(row['parameters']) / 1e6:.1f}"
        adds = f"{int(row['multiply_adds']) / 1e9:.2f}" if row["multiply_adds"] else "-"
        facts = [size, adds, row["licence"] or "not stated", f"`{row['digest'][:8]}`"]
        lines.append([f"`{row['model']}`", row["group"], *(_cell(row, name) for name in figures), *facts])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(row: Row, name: str) -> str:
    if not row.get(name):
        return "-"
    return "{:.1f} [{:.1f}, {:.1f}]".format(*(float(row[f"{name}{end}"]) for end in ("", "_low", "_high")))


def note(rows: Sequence[Row]) -> str:
    """Return a sentence on what all figures have in common.

    Raises:
        ValueError: If there are no rows, or their images, labels or protocol versions differ.
    """
    names = ("data", "data_sha256", "labels_sha256", "protocol_version")
    same = {tuple(row.get(name, "") for name in names) for row in rows}
    if len(same) != 1:
        raise ValueError(
            f"rows of {len(same)} data sets, labels or protocol versions are not comparable: measure them again"
        )
    data, digest, _, version = same.pop()
    counts = " or ".join(sorted({row["top1_n"] for row in rows}))
    timed = " or ".join(sorted({row["timed_on"] for row in rows if row["timed_on"]}))
    speed = f" Images/s: on {timed}, the median of 7 batches [slowest, fastest]." if timed else ""
    return (
        f"{counts} images of `{data}` (SHA-256 `{digest[:8]}`), protocol version {version}; "
        f"percent with 95% intervals, the most consistent network first.{speed}"
    )


def missing(rows: Sequence[Row], listed: Sequence[Listed], name: str) -> str:
    """Return a table of how many networks of the models file have a row, by kind."""
    there = {row["spec"] for row in rows}
    lines = [f"| kind | in `{name}` | measured |", "| --- | --- | --- |"]
    for group in dict.fromkeys(one.group for one in listed):
        specs = [one.spec for one in listed if one.group == group]
        lines.append(f"| {group} | {len(specs)} | {sum(spec in there for spec in specs)} |")
    return "\n".join(lines)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the scatter plot of accuracy against crop consistency."""

    def ends(row: Row, name: str) -> tuple[float, float]:
        return float(row[f"{name}_low"]), float(row[f"{name}_high"])

    points = {row["model"]: (float(row["top1"]), float(row["crop_consistency"])) for row in rows}
    bars = {row["model"]: (ends(row, "top1"), ends(row, "crop_consistency")) for row in rows}
    kinds = {row["model"]: row["group"] for row in rows}
    picture = plots.accuracy_consistency(points, ylabel="crop consistency (%)", errors=bars, groups=kinds)
    picture.savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    run_script(main, sys.argv[1:])
