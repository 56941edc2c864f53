"""The table of docs/deploy.md from the record of `deploy_checks.py`."""

from __future__ import annotations

import re
from typing import Any

_BEGIN, _END = "<!-- checks: begin -->", "<!-- checks: end -->"


def put_table(page: str, rows: dict[str, dict[str, dict[str, dict[str, Any]]]]) -> str:
    """Replace what stands between the page's markers.

    Raises:
        ValueError: If the page has no markers.
    """
    if _BEGIN not in page or _END not in page:
        raise ValueError(f"the page has no lines {_BEGIN} and {_END}")
    return re.sub(f"{_BEGIN}.*{_END}", lambda _: f"{_BEGIN}\n{table(rows)}\n{_END}", page, flags=re.DOTALL)


def table(rows: dict[str, dict[str, dict[str, dict[str, Any]]]]) -> str:
    """A line for each network and check, a column for each library."""
    libraries = ("antialiased-zoo", "antialiased-cnns", "torchvision")
    lines = [f"| network | check | {' | '.join(libraries)} |", "| --- | --- | --- | --- | --- |"]
    for name, checks in sorted(rows.items()):
        for check, found in sorted(checks.items()):
            cells = [_cell(found[library]) if library in found else "" for library in libraries]
            lines.append(f"| {name} | {check} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    if not row["right"]:
        return f"fails: {row.get('note', 'difference {:.0e}'.format(row.get('difference', 0))).split(':')[0]}"
    cell = f"{row['seconds']} s, {row['difference']:.0e}"
    return cell + (f", {row['nodes']} nodes" if "nodes" in row else "")
