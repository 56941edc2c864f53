"""Manifests written to harm: what they claim, how large they are, what they would print."""

import json
import time

import pytest
from test_manifest import FACTS as ENTRY
from test_manifest import LICENSES

from antialiased_zoo.errors import ManifestError
from antialiased_zoo.weights import manifest


def text(**top: object) -> str:
    return json.dumps({"schema": 1, "licenses": LICENSES, "entries": [ENTRY], **top})


@pytest.mark.parametrize("name", ["~", "~root", "-rf", "x.pth.converted.safetensors", "x.CONVERTED.safetensors"])
def test_names_with_a_second_meaning(name: str) -> None:
    with pytest.raises(ManifestError, match="file is"):
        manifest.parse(text(entries=[{**ENTRY, "file": name}]))


@pytest.mark.parametrize("source", ["hf://a/b/..\\..\\c@main", "hf://a/b/c:d@main", "hf://a/b/c?d@main"])
def test_hub_files_with_a_second_meaning(source: str) -> None:
    with pytest.raises(ManifestError, match="must look like hf://"):
        manifest.parse(text(entries=[{**ENTRY, "sources": [source]}]))


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "true"])
def test_numbers_that_are_none(number: str) -> None:
    for made in (text(baselines={"resnet18": {"acc1": "?"}}), text(entries=[{**ENTRY, "metrics": {"acc1": "?"}}])):
        with pytest.raises(ManifestError):
            manifest.parse(made.replace('"?"', number))


@pytest.mark.parametrize(
    "top",
    [
        {"entries": [{**ENTRY, "metrics": {"acc1\x1b[2J": 1}}]},
        {"entries": [{**ENTRY, "classes": ["a\x07", "b"]}]},
        {"entries": [{**ENTRY, "model": "\x1b[2J"}]},
        {"entries": [{**ENTRY, "\x1b[2J": 1}]},
        {"citations": {"a": "\x1b]0;owned\x07"}},
        {"baselines": {"\x1b[2J": {"acc1": 1}}},
        {"\x1b[2J": 1},
    ],
)
def test_escape_sequences_are_refused_and_not_shown(top: dict[str, object]) -> None:
    with pytest.raises(ManifestError) as caught:
        manifest.parse(text(**top))
    assert str(caught.value).isprintable()


def test_a_duplicate_name_among_many_takes_linear_time() -> None:
    pairs = ",".join(f'"n{i}": 0' for i in range(100_000))
    begun = time.process_time()
    with pytest.raises(ManifestError, match="'n7' occurs twice"):
        manifest.parse(f'{{"n7": 1, {pairs}}}')
    assert time.process_time() - begun < 10  # a minute where each name is counted


def test_a_manifest_can_require_full_digests() -> None:
    short = {key: value for key, value in ENTRY.items() if key != "sha256"} | {"sha256_prefix": "0" * 8}
    assert len(manifest.parse(text(entries=[short]))) == 1
    assert len(manifest.parse(text(require_full_digests=True))) == 1
    with pytest.raises(ManifestError, match="without all 64 digits"):
        manifest.parse(text(entries=[short], require_full_digests=True))
    with pytest.raises(ManifestError, match="true or false"):
        manifest.parse(text(require_full_digests="yes"))
