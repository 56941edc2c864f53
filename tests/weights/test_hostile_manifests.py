"""Manifests written to harm: what they claim, how large they are, what they would print."""

import time
from collections.abc import Iterator

import pytest
from fault_table import write
from manifests import FACTS as ENTRY
from manifests import text_of

from antialiased_zoo.errors import ManifestError
from antialiased_zoo.weights import manifest

ROWS: dict[str, tuple[str, ...]] = {}


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    write("Manifests", ("what a manifest holds", "outcome"), ROWS, 21)


def refused(made: str, match: str) -> tuple[str]:
    """Return what is said of a manifest that is not taken."""
    with pytest.raises(ManifestError, match=match) as caught:
        manifest.parse(made)
    assert str(caught.value).isprintable()
    return (f"ManifestError: {caught.value}",)


def text(**top: object) -> str:
    return text_of(ENTRY, **top)


@pytest.mark.parametrize("name", ["~", "~root", "-rf", "x.pth.converted.safetensors", "x.CONVERTED.safetensors"])
def test_names_with_a_second_meaning(name: str) -> None:
    ROWS[f"a file called `{name}`"] = refused(text(entries=[{**ENTRY, "file": name}]), "file is")


@pytest.mark.parametrize("source", ["hf://a/b/..\\..\\c@main", "hf://a/b/c:d@main", "hf://a/b/c?d@main"])
def test_hub_files_with_a_second_meaning(source: str) -> None:
    ROWS[f"the source `{source}`"] = refused(text(entries=[{**ENTRY, "sources": [source]}]), "must look like hf://")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "true"])
def test_numbers_that_are_none(number: str) -> None:
    for made in (text(baselines={"resnet18": {"acc1": "?"}}), text(entries=[{**ENTRY, "metrics": {"acc1": "?"}}])):
        ROWS[f"{number} where a number is expected"] = refused(made.replace('"?"', number), "number")


@pytest.mark.parametrize(
    ("where", "top"),
    [
        ("an entry's metrics", {"entries": [{**ENTRY, "metrics": {"acc1\x1b[2J": 1}}]}),
        ("an entry's classes", {"entries": [{**ENTRY, "num_classes": 2, "classes": ["a\x07", "b"]}]}),
        ("a model's name", {"entries": [{**ENTRY, "model": "\x1b[2J"}]}),
        ("an entry's field", {"entries": [{**ENTRY, "\x1b[2J": 1}]}),
        ("a citation", {"citations": {"a": "\x1b]0;owned\x07"}}),
        ("a baseline's name", {"baselines": {"\x1b[2J": {"acc1": 1}}}),
        ("a field's name", {"\x1b[2J": 1}),
    ],
)
def test_escape_sequences_are_refused_and_not_shown(where: str, top: dict[str, object]) -> None:
    match = "unknown field" if where == "a field's name" else "unprintable characters"
    ROWS[f"escape sequences in {where}"] = refused(text(**top), match)


def test_a_duplicate_name_among_many_takes_linear_time() -> None:
    pairs = ",".join(f'"n{i}": 0' for i in range(100_000))
    begun = time.process_time()
    ROWS["one name twice, among 100,000"] = refused(f'{{"n7": 1, {pairs}}}', "'n7' occurs twice")
    assert time.process_time() - begun < 10  # a minute where each name is counted


def test_a_manifest_can_require_full_digests() -> None:
    short = {key: value for key, value in ENTRY.items() if key != "sha256"} | {"sha256_prefix": "0" * 8}
    assert len(manifest.parse(text(entries=[short]))) == 1
    assert len(manifest.parse(text(require_full_digests=True))) == 1
    row = refused(text(entries=[short], require_full_digests=True), "without all 64 digits")
    ROWS["8 digits of a digest, and `require_full_digests`"] = row
    with pytest.raises(ManifestError, match="it must be of type bool"):
        manifest.parse(text(require_full_digests="yes"))
