"""Scripts that go on where they stopped do so with the same settings only."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ablation
import deploy_checks
import pytest
import survey
import torch
from benchmarks import gpu


def test_an_ablation_goes_on_with_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def measure(case: dict[str, Any], *_: object) -> dict[str, Any]:
        measured.append(case["network"])
        return {**case, "ms": {"formula": 1.0}, "speedup": {"formula": 1.0}}

    def run(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["ablation.py", "--out", str(tmp_path), *words])
        ablation.main()

    monkeypatch.setattr(ablation, "measure", measure)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    one = ("--modes", "training", "--batches", "1", "--layouts", "NCHW", "--threads", "1")
    run(*one, "--networks", "alexnet")
    run(*one, "--networks", "alexnet", "vgg16")
    assert measured == ["alexnet", "vgg16"]
    for words, changed in ((("--threads", "2"), "threads: 1 there, 2 now"), (("--clock", "cpu"), "clock: wall there")):
        with pytest.raises(ValueError, match=changed):
            run(*one, *words, "--networks", "alexnet", "vgg16")
    monkeypatch.setattr(ablation, "commit", lambda: "another")
    with pytest.raises(ValueError, match=r"default\.json is of another run \(commit: .* there, another now\)"):
        run(*one, "--networks", "resnet18")
    assert len(measured) == 2


def test_a_survey_goes_on_with_the_same_versions_and_photos(tmp_path: Path) -> None:
    path, facts = tmp_path / "distance.json", {"versions": {"torch": "1"}, "photos": "photos.zip 12345678"}
    assert survey.earlier(path, facts) == {}
    path.write_text(json.dumps({**facts, "networks": {"torchvision:alexnet": {}}}))
    assert survey.earlier(path, facts) == {"torchvision:alexnet": {}}
    for name, value in (("versions", {"torch": "2"}), ("photos", "other.zip 87654321")):
        with pytest.raises(ValueError, match=rf"of another run \({name}(\.torch)?: "):
            survey.earlier(path, {**facts, name: value})


def test_the_libraries_of_a_deployment_check_are_measured_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs_seen: list[list[tuple[str, str]]] = []

    def rows(name: str, jobs: list[tuple[str, str]], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
        jobs_seen.append(jobs)
        yield from ({"right": True, "run": len(jobs_seen)} for _ in jobs)

    def run(*libraries: str) -> dict[str, Any]:
        words = ["resnet18", "--checks", "trace", "--record", str(tmp_path / "checks.json"), "--libraries"]
        deploy_checks.main([*words, *libraries])
        found: dict[str, Any] = json.loads((tmp_path / "checks.json").read_text())["resnet18"]["trace"]
        return {library: row["run"] for library, row in found.items()}

    ours, theirs, plain = deploy_checks.LIBRARIES
    monkeypatch.setattr(deploy_checks, "_rows_of_process", rows)
    monkeypatch.setattr(deploy_checks, "write_page", lambda _: None)
    assert run(ours) == run(ours) == {ours: 1}
    assert run(ours, theirs) == run(ours) == {ours: 2, theirs: 2}
    assert run(theirs, plain) == {theirs: 3, plain: 3}
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "another")
    assert run(theirs, plain) == {theirs: 4, plain: 4}


def test_the_gpu_part_goes_on_on_the_same_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[str] = []
    monkeypatch.setattr(gpu, "_cases", lambda _: [("copy", lambda: run.append("copy") or {"ms": 1.0})])
    options = argparse.Namespace(out=tmp_path, device=torch.device("cpu"), minutes=1, batch=8, size=64, turns=3)
    options.cases = ["layer"]
    gpu.gpu(options)
    assert run == []
    options.cases = []
    gpu.gpu(options)
    gpu.gpu(options)
    assert run == ["copy"]
    record = tmp_path / "gpu.jsonl"
    record.write_bytes(record.read_bytes()[:-3])  # killed while it wrote the row
    gpu.gpu(options)
    assert run == ["copy"] * 2
    record.write_text("")  # killed before the first line
    gpu.gpu(options)
    assert [json.loads(line)["case"] for line in record.read_text().splitlines()] == ["machine", "copy"]
    monkeypatch.setattr(gpu, "machine", lambda _: {"device": "another"})
    with pytest.raises(ValueError, match=r"device: .* there, another now"):
        gpu.gpu(options)
