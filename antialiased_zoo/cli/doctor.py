"""The command ``doctor``: the environment, and which sources of weights are alive."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import ssl
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.request import getproxies

from .. import __version__
from ..errors import CacheError, FetchError
from ..weights import Entry, hub, manifest, read_small, replacing
from .output import coloured, complain, say, say_json
from .specs import of_networks, spec_of

_RECORD = ".antialiased_zoo_doctor.json"
_COLOURS = {"alive": "green", "local": "green", "differs": "yellow"}
_LARGEST = 1024 * 1024
_PACKAGES = ("torch", "torchvision", "huggingface_hub", "safetensors", "tqdm")


def doctor(options: argparse.Namespace) -> int:
    """Print the environment and every source's state; return 1 if an entry has no source that is alive."""
    entries = of_networks(manifest.load(), options.names)
    machine = environment()
    found = {} if hub.is_offline() else ask(entries, progress=not options.json)
    if found:
        _record(found)
    if options.json:
        rows = [{"weights": spec, "source": f.source, "status": f.status, "detail": f.detail}
                for spec, findings in found.items() for f in findings]  # fmt: skip
        say_json({"environment": machine, "sources": rows})
    else:
        for name, value in machine.items():
            say(f"{name:14} {value}")
        for spec, findings in found.items():
            for finding in findings:
                status = coloured(f"{finding.status:8}", _COLOURS.get(finding.status, "red"))
                say(f"{status} {spec:34} {finding.source}  {finding.detail}")
        if machine["offline"]:
            say(f"no source was asked: {' and '.join(machine['offline'])} forbids the network")
    return 0 if all(any(f.status in ("alive", "local") for f in findings) for findings in found.values()) else 1


def environment() -> dict[str, Any]:
    """Return the facts that loading depends on: versions, the cache, and environment variables."""
    facts: dict[str, Any] = {"antialiased-zoo": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            facts[name] = version(name)
    facts["cache"] = _cache()
    facts["offline"] = [name for name in hub.OFFLINE if os.environ.get(name)] if hub.is_offline() else False
    facts["mirrors"] = [hub.redacted(base) for base in os.environ.get(hub.MIRROR, "").split()]
    facts["hub"] = hub.redacted(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    facts["proxies"] = {scheme: hub.redacted(url) for scheme, url in getproxies().items()}
    facts["certificates"] = _certificates()
    return facts


def _cache() -> str:
    try:
        folder = hub.cache.folder()
        there = next(path for path in (folder, *folder.parents) if hub.cache.exists(path))
    except CacheError as error:
        return f"unusable: {error}"
    state = "writable" if os.access(there, os.W_OK) else "read-only"
    return f"{folder} ({state}, {shutil.disk_usage(there).free:,} bytes free)"


def _certificates() -> str:
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        if path := os.environ.get(name):
            return f"{name}={path}" + ("" if os.path.exists(path) else " (missing)")
    return f"the system's ({ssl.get_default_verify_paths().openssl_cafile})"


def ask(entries: list[Entry], *, progress: bool = True) -> dict[str, list[hub.Finding]]:
    """Probe every source of every entry, mirrors first."""
    from tqdm import tqdm

    retry = hub.Retry(attempts=1)
    network = hub.Network(retry.connect)
    found: dict[str, list[hub.Finding]] = {}
    with tqdm(_sources(entries), "sources", disable=None if progress else True, leave=False) as rows:
        for entry, file, source in rows:
            found.setdefault(spec_of(entry), []).append(hub.probe(source, file, retry, network))
    return found


def _sources(entries: list[Entry]) -> Iterator[tuple[Entry, Any, str]]:
    for entry in entries:
        for file in entry.files:
            for source in (*hub.mirrored(file), *file.sources):
                yield entry, file, source


def _record(found: dict[str, list[hub.Finding]]) -> None:
    states = last_findings() | {f.key: f.status for findings in found.values() for f in findings}
    try:
        path = hub.cache.folder() / _RECORD
        hub.cache.make(path.parent)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(states), encoding="utf-8")
    except (FetchError, OSError) as error:
        complain(f"the results cannot be saved: {error}")


def last_findings() -> dict[str, str]:
    """Return the last results of `doctor`, a state for each source's key; empty if it never ran."""
    try:
        found = json.loads(read_small(hub.cache.folder() / _RECORD, _LARGEST))
    except (FetchError, OSError, ValueError, RecursionError):
        return {}
    return {source: str(state) for source, state in found.items()} if isinstance(found, dict) else {}
