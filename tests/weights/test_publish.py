"""scripts/publish.py: a folder and a hub on this machine, interrupted and given again; others load from there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import publish
import pytest
import torch
from fake_hub import FakeHub
from huggingface_hub import HfApi
from manifests import text_of
from plain_server import served
from safetensors.torch import save_file

import antialiased_zoo as az
from antialiased_zoo.weights import hub, manifest
from antialiased_zoo.weights.atomic_files import private_name


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[manifest.Entry]:
    """Three weights files in a folder, and the manifest that lists them."""
    records = []
    for filter_size in (2, 3, 4):
        torch.manual_seed(filter_size)
        path = tmp_path / "sources" / f"tiny_lpf{filter_size}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_file(az.mobilenet_v2(None, num_classes=2).state_dict(), path)
        records.append(
            {
                "model": "mobilenet_v2", "filter_size": filter_size, "recipe": "tiny", "file": path.name,
                "format": "safetensors", "sha256": publish.digest_of(path),
                "sources": ["https://gone.invalid/" + path.name],
                "license": "MIT", "dataset": "photos", "num_classes": 2, "classes": ["cat", "dog"],
                "metrics": {"acc1": 90.0 + filter_size}, "preprocessing": {"resize": 64, "crop": 64},
            }
        )  # fmt: skip
    listed = tmp_path / "manifest.json"
    listed.write_text(text_of(*records))
    monkeypatch.setenv("ANTIALIASED_ZOO_MANIFEST", str(listed))
    found = [entry for entry in manifest.load() if entry.recipe == "tiny"]
    fetched = {entry.file: tmp_path / "sources" / entry.file for entry in found}
    monkeypatch.setattr(publish, "hub", SimpleNamespace(fetch=lambda entry: fetched[entry.file]))
    return found


def loads_from(address: str, entries: list[manifest.Entry], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIALIASED_ZOO_MIRROR", address)
    for entry in entries:
        path = hub.fetch(entry, progress=False)
        assert publish.digest_of(path) == entry.files[0].sha256


def test_a_folder_that_is_served_is_a_mirror(
    entries: list[manifest.Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = publish.Folder(tmp_path / "mirror")
    assert publish.publish(target, entries[:2]) == {}
    (tmp_path / "mirror" / entries[0].file).write_bytes(b"half a file")
    written = (tmp_path / "mirror" / entries[1].file).stat()
    assert publish.publish(target, entries) == {}
    assert (tmp_path / "mirror" / entries[1].file).stat().st_ino == written.st_ino  # left alone
    card = (tmp_path / "mirror" / "README.md").read_text()
    assert "license: mit" in card
    assert all(f"acc1 {90 + k}.00" in card for k in (2, 3, 4))
    assert {path.name for path in (tmp_path / "mirror").iterdir()} == {"README.md", *(e.file for e in entries)}
    with served(tmp_path / "mirror") as address:
        loads_from(address, entries, monkeypatch)


def test_the_card_marks_files_with_eight_public_digits(entries: list[manifest.Entry]) -> None:
    rows = [(entry, entry.files[0], "0" * 64) for entry in entries]
    assert "forged" not in publish.card(rows)
    file = replace(entries[1].files[0], sha256=None, sha256_prefix="0" * 8)
    rows = publish.card([rows[0], (entries[1], file, "0" * 64)]).splitlines()
    assert [row.endswith("\\* |") for row in rows if "tiny_lpf" in row] == [False, True]
    assert sum("can be forged within minutes" in row for row in rows) == 1


def test_a_file_has_its_own_name_and_the_card_lists_what_is_there(
    entries: list[manifest.Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "sources" / "other.pth"
    other.write_bytes(b"the same weights in another file")
    digest = publish.digest_of(other)
    also = replace(entries[0].files[0], file=other.name, sha256=None, sha256_prefix=digest[:8])
    entry = replace(entries[0], files=(*entries[0].files, also))
    fetched = {entry.file: other, entries[1].file: tmp_path / "sources" / entries[1].file}
    monkeypatch.setattr(publish.hub, "fetch", lambda entry: fetched[entry.file])
    target = publish.Folder(tmp_path / "mirror")
    assert publish.publish(target, [entry]) == {}
    assert (tmp_path / "mirror" / other.name).read_bytes() == other.read_bytes()
    assert not (tmp_path / "mirror" / entry.file).exists()
    assert publish.publish(target, [entries[1]], [entry, *entries[1:]]) == {}
    rows = [row for row in (tmp_path / "mirror" / "README.md").read_text().splitlines() if "mobilenet_v2" in row]
    assert [other.name in row and f"`{digest}` \\*" in row for row in rows] == [True, False]
    assert entries[1].file in rows[1]
    other.write_bytes(b"neither")
    assert "no file of the entry" in publish.publish(target, [entry])[entry.file]


def test_what_a_killed_run_left_in_the_folder_is_removed(tmp_path: Path) -> None:
    dead = private_name().replace(f"-{os.getpid()}-", "-999999999-")
    for name in (f"a.safetensors{dead}.tmp", f"b.pth{private_name()}.tmp", "c.tmp"):
        (tmp_path / name).touch()
    publish.Folder(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_hub_is_uploaded_to_in_steps_and_is_a_mirror(
    entries: list[manifest.Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # the fake hub has no such store
    with FakeHub() as server:
        target = publish.HubRepository("me/zoo", HfApi(endpoint=server.url, token="hf_x"))
        server.refuse = 1
        failed = publish.publish(target, entries)
        assert list(failed) == [entries[0].file]
        assert "403" in failed[entries[0].file]
        held = set(server.repos["me/zoo"][-1][1])
        assert held == {"README.md", entries[1].file, entries[2].file}
        server.requests.clear()
        assert publish.publish(target, entries) == {}
        assert sum(request.startswith("PUT") for request in server.requests) == 1
        commits = len(server.repos["me/zoo"])
        assert publish.publish(target, entries) == {}  # nothing is left to do
        assert len(server.repos["me/zoo"]) == commits
        loads_from(f"{server.url}/me/zoo/resolve/main", entries, monkeypatch)


def test_a_file_that_cannot_be_had_is_named_and_the_others_are_uploaded(
    entries: list[manifest.Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch = publish.hub.fetch

    def fail_once(entry: manifest.Entry) -> Path:
        if entry is entries[1]:
            raise az.errors.FetchError("no source\ngave it")
        return fetch(entry)

    monkeypatch.setattr(publish.hub, "fetch", fail_once)
    monkeypatch.setattr(publish.manifest, "load", lambda: entries)
    with pytest.raises(SystemExit, match="1"):
        publish.main([str(tmp_path / "mirror"), "mobilenet*", "--recipe", "tiny"])
    out = capsys.readouterr()
    assert f"{entries[1].file}: FetchError: no source\n" in out.err
    assert "2 of 3 files" in out.out
    with pytest.raises(ValueError, match="no such weights"):
        publish.main([str(tmp_path / "mirror"), "resnet*", "--recipe", "tiny"])
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"publish\.py: cannot use .*file: FileExistsError"):
        publish.main([str(tmp_path / "file"), "mobilenet*", "--recipe", "tiny"])
