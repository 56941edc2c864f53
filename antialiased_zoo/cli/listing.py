"""``list`` and ``info``: what weights there are, and what is known of them."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from ..errors import FetchError
from ..weights import Entry, hub, manifest
from .doctor import last_findings
from .output import say, say_json, spec_of


def list_weights(options: argparse.Namespace) -> int:
    """Print a line for each entry."""
    known = manifest.load()
    for name in options.names:
        if not known.of_model(name):
            known.find(name, 4)  # says which names are near
    entries = [entry for entry in known if not options.names or entry.model in options.names]
    if options.json:
        say_json([facts(entry) for entry in entries])
        return 0
    if options.markdown:
        from ..zoo import published_table

        say(published_table(known))
        return 0
    found = last_findings()
    say(f"{'weights':34} {'top-1':>6} {'crop cons.':>10}  {'licence':16} {'digits':6}  cached  {'sources':12}  default")
    for entry in entries:
        figures = [f"{entry.metrics[key]:.2f}" if key in entry.metrics else "" for key in ("acc1", "consistency_crop")]
        digits = min(len(file.digest) for file in entry.files)
        row = f"{spec_of(entry):34} {figures[0]:>6} {figures[1]:>10}  {entry.license.name:16} {digits:>6}  "
        default = "default" if entry.default else ""
        say(f"{row}{_cached(entry)[0]:6}  {_sources(entry, found):12}  {default}".rstrip())
    return 0


def info(options: argparse.Namespace) -> int:
    """Print everything known of one entry."""
    known = facts(options.find(options.weights))
    if options.json:
        say_json(known)
        return 0
    for name, value in known.items():
        if value not in (None, "", {}, []):
            say(f"{name:13} {value if isinstance(value, str) else json.dumps(value)}")
    return 0


def facts(entry: Entry) -> dict[str, Any]:
    """Return everything known of an entry, as JSON has it."""
    known = {name: getattr(entry, name) for name in ("model", "filter_size", "recipe", "default", "dataset")}
    known |= {"num_classes": entry.num_classes, "classes": entry.classes, "metrics": dict(entry.metrics)}
    known |= {"structure": dict(entry.structure), "preprocessing": asdict(entry.preprocessing)}
    known |= {"license": asdict(entry.license), "files": [asdict(file) for file in entry.files]}
    known |= {"citation": entry.citation, "command": entry.command}
    return {"weights": spec_of(entry), **known, "cached": _cached(entry)[1]}


def _cached(entry: Entry) -> tuple[str, str | None]:
    try:
        path = hub.cached(entry)
    except FetchError:  # `verify` says what; here it must not hide the other entries
        return "error", None
    return ("yes", str(path)) if path else ("no", None)


def _sources(entry: Entry, found: dict[str, str]) -> str:
    states = [found[source] for source in entry.sources if source in found]
    alive = sum(state in ("alive", "local") for state in states)
    return f"{alive} of {len(entry.sources)} alive" if states else "not asked"
