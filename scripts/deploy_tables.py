"""The tables of docs/deploy.md from the records of `deploy_checks.py` and `deploy_int8.py`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Checks = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]  # network -> check -> library -> row

LIBRARIES = ("antialiased-zoo", "antialiased-cnns", "torchvision")
_HEADINGS = {
    "export": "export",
    "export dynamic": "dynamic",
    "ONNX": "ONNX",
    "ONNX dynamic": "dynamic",
    "AOTInductor": "AOTI dynamic",
    "trace": "trace",
    "compile dynamic": "compile dynamic",
    "PT2E int8": "PT2E int8",
    "torchao int8": "torchao int8",
}


def put_table(page: str, name: str, lines: Sequence[str]) -> str:
    """Replace the text between the page's markers of that name.

    Raises:
        ValueError: If the page has no such markers.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in page or end not in page:
        raise ValueError(f"the page has no lines {begin} and {end}")
    table = "\n".join((begin, *lines, end))
    return re.sub(f"{begin}.*{end}", lambda _: table, page, flags=re.DOTALL)


def put_tables(page: str, checks: Checks, latency: Mapping[str, Any], int8: Iterable[Mapping[str, Any]]) -> str:
    """Write all tables of the page."""
    page = put_table(page, "latency", latencies(latency))
    page = put_table(page, "checks", differences(checks))
    page = put_table(page, "costs", costs(checks))
    return put_table(page, "int8", quantised(int8))


def differences(checks: Checks) -> list[str]:
    """One row per network, one column per check: the difference or the reason."""
    lines = _head("network", *_HEADINGS.values())
    for name, found in sorted(checks.items()):
        rows = [found.get(check, {}) for check in _HEADINGS]
        if any(rows):
            lines.append(_line(name, *map(_result, _HEADINGS, rows)))
    return lines


def _result(check: str, row: Mapping[str, Mapping[str, Any]]) -> str:
    """The difference; for PT2E, whose values are coarse, with torchvision's network's in brackets."""
    cell = _difference(row.get(LIBRARIES[0]))
    return f"{cell} ({_difference(row[LIBRARIES[2]])})" if check == "PT2E int8" and LIBRARIES[2] in row else cell


def costs(checks: Checks) -> list[str]:
    """The times of each library, where the peer was measured in the same process."""
    lines = _head("network", "check", *LIBRARIES, "zoo / cnns")
    for name, found in sorted(checks.items()):
        for check, rows in sorted(found.items()):
            if all(row.get("right") for row in rows.values()) and set(LIBRARIES[:2]) <= set(rows):
                ours, theirs = (rows[library]["seconds"] for library in LIBRARIES[:2])
                cells = [_cost(rows[library]) if library in rows else "" for library in LIBRARIES]
                lines.append(_line(name, check, *cells, f"{ours / theirs:.2f}" if theirs else ""))
    return lines


def latencies(rows: Mapping[str, Any]) -> list[str]:
    """One row per network: nodes and milliseconds of each library."""
    lines = _head("network", *LIBRARIES, "zoo / cnns")
    for name, row in sorted(rows.items()):
        cells = [f"{row[library]['nodes']} nodes, {row[library]['milliseconds']} ms" for library in LIBRARIES]
        lines.append(_line(name, *cells, f"{row['ratio']:.2f}"))
    return lines


def quantised(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """One row per network and way to quantise: the measures with intervals, and the number of images."""
    lines = _head("network", "way", "top-1", "crop consistency", "answers as in float32", "images")
    for row in rows:
        shares = [_share(row[measure]) for measure in ("top1", "crop_consistency", "same")]
        lines.append(_line(row["network"], row["way"], *shares, str(row["images"])))
    return lines


def _difference(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    if not row["right"]:
        return _reason(row)
    graphs = _graphs(row)
    return f"{row['difference']:.0e}{graphs}" if row["difference"] else f"0{graphs}"


def _reason(row: Mapping[str, Any]) -> str:
    return str(row.get("note", "off by {:.0e}".format(row.get("difference", 0)))).split(":")[0]


def _cost(row: Mapping[str, Any]) -> str:
    each = f" ({' + '.join(str(seconds) for seconds in row['each'])})" if "each" in row else ""
    cell = f"{row['seconds']} s{each}"
    cell += f", {row['nodes']} nodes" if "nodes" in row else ""
    return cell + _graphs(row)


def _graphs(row: Mapping[str, Any]) -> str:
    """How many graphs a compiled network has, if it was counted."""
    count = row["graphs"][-1] if "graphs" in row else 0
    return f", {count} graph{'s' * (count > 1)}" if count else ""


def _share(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.1f} [{figure['low']:.1f}, {figure['high']:.1f}]"


def _head(*cells: str) -> list[str]:
    return [_line(*cells), _line(*("---" for _ in cells))]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
