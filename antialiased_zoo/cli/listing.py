"""The commands ``list`` and ``info``: the available weights, and the facts about them."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from ..errors import FetchError
from ..weights import Entry, hub, manifest
from .doctor import last_findings
from .output import coloured, say, say_json
from .specs import find, of_networks, spec_of

_SHORT = "~ only 8 digits of the SHA-256 are public: can be forged, see docs/weights.md"


def list_weights(options: argparse.Namespace) -> int:
    """Print one line per entry."""
    known = manifest.load()
    entries = of_networks(known, options.names)
    if options.json:
        say_json([facts(entry) for entry in entries])
        return 0
    if options.markdown:
        from ..zoo import published_table

        say(published_table(known))
        return 0
    found = last_findings()
    say(f"{'weights (* default, ~ short digest)':37}{'top-1':>6}{'cons.':>6} {'licence':15} {'here':5} alive")
    for entry in entries:
        say(_row(entry, found))
    if any(entry.files[0].sha256 is None for entry in entries):
        say(_SHORT)
    return 0


def _row(entry: Entry, found: dict[str, str]) -> str:
    """The row of an entry, of less than 80 columns for specs of up to 36 letters."""
    spec = f"{spec_of(entry)}{'*' if entry.default else ''}{'' if entry.files[0].sha256 else '~'}"
    top1, crops = (f"{entry.metrics[key]:.2f}" if key in entry.metrics else "" for key in ("acc1", "consistency_crop"))
    free = entry.license.commercial_use
    licence = coloured(f"{_shortened(entry.license.name, 15):15}", "green" if free else "yellow")
    cached = _cached(entry)[0]
    here = coloured(f"{cached:5}", "green") if cached == "yes" else f"{cached:5}"
    return f"{spec:37}{top1:>6}{crops:>6} {licence} {here} {_sources(entry, found)}"


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def info(options: argparse.Namespace) -> int:
    """Print all facts about one entry."""
    known = facts(find(options.weights))
    if options.json:
        say_json(known)
        return 0
    for name, value in known.items():
        if value not in (None, "", {}, []):
            say(f"{name:13} {value if isinstance(value, str) else json.dumps(value)}")
    return 0


def facts(entry: Entry) -> dict[str, Any]:
    """Return all facts about an entry, for JSON."""
    known = {name: getattr(entry, name) for name in ("model", "filter_size", "recipe", "default", "dataset")}
    known |= {"num_classes": entry.num_classes, "classes": entry.classes, "metrics": dict(entry.metrics)}
    known |= {"structure": dict(entry.structure), "preprocessing": asdict(entry.preprocessing)}
    known |= {"license": asdict(entry.license), "files": [asdict(file) for file in entry.files]}
    known |= {"citation": entry.citation, "command": entry.command}
    return {"weights": spec_of(entry), **known, "cached": _cached(entry)[1]}


def _cached(entry: Entry) -> tuple[str, str | None]:
    try:
        path = hub.cached(entry)
    except FetchError:  # `verify` reports it; here it must not hide the other entries
        return "error", None
    return ("yes", str(path)) if path else ("no", None)


def _sources(entry: Entry, found: dict[str, str]) -> str:
    """Number of sources that were alive in the last `doctor`, such as 2/3; ? if they were not checked."""
    keys = map(hub.source_key, entry.sources)
    states = [found[key] for key in keys if key in found]
    if not states:
        return "?"
    alive = sum(state in ("alive", "local") for state in states)
    return coloured(f"{alive}/{len(entry.sources)}", "green" if alive else "red")
