"""The contests as Markdown tables, and the facts about the machine."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .contest import OURS, Row, geometric_mean


def markdown(rows: Sequence[Row]) -> str:
    """Tables of ratios, each with the geometric mean of each contestant's ratios."""
    text = []
    for table in dict.fromkeys(row.table for row in rows):
        mine = [row for row in rows if row.table == table]
        others = [name for name in dict.fromkeys(n for row in mine for n in row.ratios) if name != OURS]
        text.append(f"\n### {table}: the other's figure over ours (quartiles); above 1 ours is better\n")
        text.append(f"| case | {OURS} | " + " | ".join(others) + " |")
        text.append("| --- " * (len(others) + 2) + "|")
        for row in mine:
            cells = [_cell(row.ratios[name]) if name in row.ratios else "" for name in others]
            text.append(f"| {row.case} | {row.medians[OURS]:.4g} {row.unit} | " + " | ".join(cells) + " |")
        means = [geometric_mean([row.ratios[name][1] for row in mine if name in row.ratios]) for name in others]
        text.append("| **geometric mean** | | " + " | ".join(f"**{mean:.2f}**" for mean in means) + " |")
    return "\n".join(text)


def _cell(ratio: tuple[float, float, float]) -> str:
    low, middle, high = ratio
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def machine(device: torch.device) -> dict[str, Any]:
    """The machine and versions that the figures hold for."""
    names = ("torch", "torchvision", "antialiased-cnns", "timm", "kornia", "triton")
    versions = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else model
    allocator = {name: os.environ[name] for name in ("GLIBC_TUNABLES", "LD_PRELOAD") if name in os.environ}
    facts = {
        "device": chip,
        "commit": commit(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    return {**facts, **versions, **allocator}


def commit() -> str:
    """The commit that this script is of, marked if files have changed since; empty outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    folder = Path(__file__).parent
    if not shutil.which("git"):
        return ""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout.strip()


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
