"""Whatever a file or a manifest holds, the reader answers with tensors, entries, or one of its own errors."""

import json
from pathlib import Path

import pytest
import torch
from checkpoint_files import safetensors_bytes, tensor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from antialiased_zoo.errors import CheckpointError
from antialiased_zoo.weights import checkpoints, manifest
from antialiased_zoo.weights.hub import cache

QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def seeds() -> dict[str, bytes]:
    import io

    state = {"weight": torch.ones(1, 1), "bias": torch.ones(1)}
    new, old = io.BytesIO(), io.BytesIO()
    torch.save(state, new)
    torch.save({"state_dict": state}, old, _use_new_zipfile_serialization=False)
    header = {"weight": tensor(0, 4), "bias": tensor(4, 8, (1,))}
    return {"zip": new.getvalue(), "old": old.getvalue(), "safetensors": safetensors_bytes(header, bytes(8))}


SEEDS = seeds()


def read(content: bytes, folder: Path) -> None:
    path = folder / "fuzzed"
    path.write_bytes(content)
    model = nn.Linear(1, 1)
    refusal = ""
    try:
        checkpoints.load_into(model, path)
    except CheckpointError as error:
        refusal = str(error)
    assert refusal == "" or "fuzzed" in refusal
    assert model.weight.isfinite().all()
    assert model.weight.shape == (1, 1)


@QUIET
@given(st.binary(max_size=300))
def test_fuzz_any_bytes(tmp_path: Path, content: bytes) -> None:
    read(content, tmp_path)


@QUIET
@given(st.sampled_from(sorted(SEEDS)), st.data())
def test_fuzz_damaged_files(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    content = bytearray(SEEDS[kind])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert", "repeat"])):
            case "change":
                content[at] = data.draw(st.integers(0, 255))
            case "cut":
                del content[at : at + data.draw(st.integers(1, 40))]
            case "insert":
                content[at:at] = data.draw(st.binary(min_size=1, max_size=20))
            case "repeat":
                content[at:at] = content[at : at + 30]
        if not content:
            break
    read(bytes(content), tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@QUIET
@given(JSON)
def test_fuzz_safetensors_headers(tmp_path: Path, value: object) -> None:
    read(safetensors_bytes({"weight": value, "bias": tensor(4, 8, (1,))}, bytes(8)), tmp_path)


@QUIET
@given(
    st.sampled_from(
        ["model", "filter_size", "file", "sha256", "sources", "classes", "metrics", "also", "size", "structure"]
    ),
    JSON,
)
def test_fuzz_manifest_fields(field: str, value: object) -> None:
    from manifests import FACTS, text_of

    entries: tuple[manifest.Entry, ...] = ()
    refusal = "fuzzed"
    try:
        entries = manifest.parse(text_of({**FACTS, field: value}), "fuzzed").entries
    except manifest.ManifestError as error:
        refusal = str(error)
    assert "fuzzed" in refusal
    for file in (file for entry in entries for file in entry.files):
        assert (cache.folder() / file.file).parent == cache.folder()
        assert len(file.digest) >= 8


@QUIET
@given(JSON | st.text(max_size=200))
def test_fuzz_manifest_text(value: object) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    with pytest.raises(manifest.ManifestError, match="fuzzed"):
        manifest.parse(text, "fuzzed")
