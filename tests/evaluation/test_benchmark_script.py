"""scripts/benchmark.py, stopped and started again: networks that are done are not timed a second time."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import benchmark
import pytest
from benchmarks.contest import OURS, Row


def test_the_same_command_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[str] = []

    def training(options: argparse.Namespace) -> Iterator[Row]:
        for name in options.networks:
            timed.append(name)
            yield Row("time", name, "ms", {OURS: 1.0}, {OURS: (1.0, 1.0, 1.0)})
            if timed == ["alexnet", "vgg16"]:
                raise KeyboardInterrupt
            yield Row("memory", name, "MiB", {OURS: 2.0}, {OURS: (1.0, 1.0, 1.0)})

    def run(*more: str) -> str:
        words = ["--parts", "training", "--networks", "alexnet", "vgg16", "--out", str(tmp_path), "--threads", "1"]
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *words, *more])
        benchmark.main()
        return (tmp_path / "training.md").read_text()

    monkeypatch.setitem(benchmark.PARTS, "training", training)
    with pytest.raises(KeyboardInterrupt):
        run()
    table = run()
    assert timed == ["alexnet", "vgg16", "vgg16"]
    assert [table.count(f"| {name} |") for name in ("alexnet", "vgg16")] == [2, 2]
    with pytest.raises(ValueError, match=r"training\.json is of another run \(arguments: "):
        run("--turns", "3")
    monkeypatch.setattr(benchmark, "machine", lambda _: {"commit": "another"})
    with pytest.raises(ValueError, match=r"commit: .* there, another now"):
        run()
    assert len(timed) == 3
