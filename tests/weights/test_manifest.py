"""The manifest: the shipped one holds every fact, and nothing hostile or careless gets past the parser."""

from pathlib import Path

import pytest
from manifests import FACTS, text_of

from antialiased_zoo.errors import ManifestError, UnknownWeightsError
from antialiased_zoo.weights import manifest
from antialiased_zoo.weights.preprocessing import Preprocessing


def parse(**changes: object) -> manifest.Manifest:
    record = {name: value for name, value in {**FACTS, **changes}.items() if value is not ...}
    return manifest.parse(text_of(record), "mine.json")


class TestShipped:
    # Sixty-six weights that others made; the figures are spot checks typed from the published tables.
    def test_counts(self) -> None:
        entries = manifest.load([manifest.own_path()]).entries
        others = [e for e in entries if not e.sources[0].startswith("package:")]
        assert len(others) == 66
        own = [e for e in others if not e.model.startswith("timm:")]
        assert {e.recipe for e in own} == {"scratch", "finetuned", "timm_bt", "timm_a1h"}
        assert len({e.model for e in entries}) == 24 + 5

    @pytest.mark.parametrize(
        ("model", "size", "recipe", "acc1", "consistency"),
        [
            ("resnet50", 4, "finetuned", 77.41, 91.32),
            ("alexnet", 2, "scratch", 57.24, 81.33),
            ("vgg19_bn", 4, "finetuned", 75.68, 91.6),
        ],
    )
    def test_published_metrics(self, model: str, size: int, recipe: str, acc1: float, consistency: float) -> None:
        entry = manifest.load().find(model, size)
        assert entry.recipe == recipe
        assert entry.metrics == {"acc1": acc1, "consistency_crop": consistency}
        assert not entry.license.commercial_use
        assert entry.name in entry.notice
        assert "CC-BY-NC-SA-4.0" in entry.notice

    def test_every_published_pair_has_one_default(self) -> None:
        entries = manifest.load().entries
        imagenet = {(e.model, e.filter_size) for e in entries if e.dataset == "ImageNet-1k"}
        assert imagenet == {(e.model, e.filter_size) for e in entries if e.default and e.dataset == "ImageNet-1k"}

    def test_published_files_carry_their_digest_in_their_name(self) -> None:
        for entry in manifest.load():
            for file in entry.files:
                if file.sha256_prefix:
                    assert f"-{file.sha256_prefix}." in file.file

    def test_hub_checkpoints(self) -> None:
        found = manifest.load()
        bt, a1h = found.find("resnet50", 3, "timm_bt"), found.find("resnet50", 2, "timm_a1h")
        assert len(bt.files[0].sha256 or "") == 64
        assert bt.sources[0].endswith("@ddcd07ccde4d183347f433fd57f2857fe3b80440")
        assert bt.files[1].sha256_prefix == "84f4748f"
        assert bt.license.commercial_use
        assert bt.notice == ""
        assert dict(bt.structure) == {"shortcut": "stride", "stem_pool": "max"}
        assert dict(a1h.structure) == {"shortcut": "stride", "stem_pool": "blur"}
        assert (found.find("resnet50", 3).recipe, found.find("resnet50", 2).recipe) == ("scratch", "scratch")
        assert bt.preprocessing.test_crop == 288

    def test_baselines(self) -> None:
        baselines = manifest.load().baselines
        assert len(baselines) == 23
        assert baselines["resnet50"] == {"acc1": 76.16, "consistency_crop": 89.2}


class TestFind:
    def test_unknown_lists_what_exists(self) -> None:
        with pytest.raises(
            UnknownWeightsError, match=r"resnet34 with filter_size=7.*filter_size=4: finetuned \(default\)"
        ):
            manifest.load().find("resnet34", 7)
        with pytest.raises(UnknownWeightsError, match="none at all"):
            manifest.load().find("resnet9000", 4)

    def test_an_entry_that_is_no_default_needs_its_recipe(self) -> None:
        with pytest.raises(UnknownWeightsError, match="no default weights"):
            parse().find("resnet18", 4)
        assert parse().find("resnet18", 4, "mine").classes == ("cat", "dog")


class TestOwnManifests:
    def test_added_by_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a b.json").write_text(text_of(FACTS))
        monkeypatch.setenv(manifest.VARIABLE, str(tmp_path / "a b.json"))
        assert manifest.load().find("resnet18", 4, "mine").dataset == "photos"
        assert manifest.load().find("resnet18", 4).recipe == "finetuned"

    def test_duplicate_names_both(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "m.json").write_text(text_of({**FACTS, "recipe": "finetuned"}))
        monkeypatch.setenv(manifest.VARIABLE, str(tmp_path / "m.json"))
        with pytest.raises(ManifestError, match=r"8cc58f59\.pth\).*\(mine\.safetensors\).*same model"):
            manifest.load()

    def test_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match=r"nowhere\.json"):
            manifest.load([tmp_path / "nowhere.json"])


BAD = {
    "parent folder": ({"file": "../evil.pth"}, "plain file name"),
    "absolute path": ({"file": "/etc/passwd"}, "plain file name"),
    "drive": ({"file": "C:evil.pth"}, "plain file name"),
    "backslash": ({"file": "..\\evil.pth"}, "plain file name"),
    "device name": ({"file": "NUL.pth"}, "plain file name"),
    "hidden file": ({"file": ".bashrc"}, "plain file name"),
    "own suffix": ({"file": "x.pth.verified"}, "reserved for the cache"),
    "bidi override": ({"file": "x\u202egpj.pth"}, "printable"),
    "decomposed name": ({"file": "e\u0301.pth"}, "NFC"),
    "long name": ({"file": "x" * 181}, "180 bytes"),
    "ftp": ({"sources": ["ftp://example.org/x"]}, "https:"),
    "file scheme": ({"sources": ["file:///etc/passwd"]}, "https:"),
    "plain http": ({"sources": ["http://example.org/x"]}, "only for this machine"),
    "http to a lookalike": ({"sources": ["http://127.0.0.1.example.org/x"]}, "only for this machine"),
    "dots in URL": ({"sources": ["https://example.org/a/../x"]}, r"'\.\.'"),
    "dots in hf": ({"sources": ["hf://a/b/../x@main"]}, "hf://owner"),
    "hf unpinned": ({"sources": ["hf://a/b/x"]}, "hf://owner"),
    "dots in package": ({"sources": ["package:../x"]}, "plain file name"),
    "password": ({"sources": ["https://me:pw@example.org/x"]}, "password"),
    "no source": ({"sources": []}, "sources is empty"),
    "source is no text": ({"sources": [7]}, "source is 7"),
    "no digest": ({"sha256": ...}, "no digest"),
    "short prefix": ({"sha256": ..., "sha256_prefix": "abcdef1"}, "8 to 64"),
    "short digest": ({"sha256": "ab" * 31}, "64 lower-case"),
    "upper-case digest": ({"sha256": "AB" * 32}, "64 lower-case"),
    "prefix of another digest": ({"sha256_prefix": "00000000"}, "is not a prefix"),
    "unknown field": ({"sha265": "ab"}, "unknown field 'sha265'"),
    "missing field": ({"dataset": ...}, "dataset is missing"),
    "missing file": ({"file": ...}, "file is missing"),
    "unknown format": ({"format": "tar"}, "format is 'tar'"),
    "filter size": ({"filter_size": 8}, "1 to 7"),
    "filter size true": ({"filter_size": True}, "1 to 7"),
    "no filter size": ({"filter_size": ...}, "write null"),
    "model": ({"model": "res net"}, "letters, digits"),
    "classes": ({"classes": ["cat"]}, "num_classes is 2"),
    "same class twice": ({"classes": ["cat", "cat"]}, "different names"),
    "license": ({"license": "WTFPL"}, "does not describe"),
    "structure": ({"structure": {"shortcut": "none"}}, "the options are"),
    "interpolation": ({"preprocessing": {"interpolation": "magic"}}, "interpolation"),
    "huge crop": ({"preprocessing": {"resize": 10**9, "crop": 224}}, "1 to 4096"),
    "metric": ({"metrics": {"acc1": "high"}}, "acc1 is 'high'; it must be a finite number"),
    "size": ({"size": -1}, "positive number"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused_with_the_entry_named(case: str) -> None:
    changes, reason = BAD[case]
    with pytest.raises(ManifestError, match=reason) as caught:
        parse(**changes)
    assert "mine.json: entry 0" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON"),
        ("[]", "not a manifest"),
        ('{"schema": 2, "entries": []}', '"schema": 1'),
        ('{"schema": true, "entries": []}', '"schema": 1'),
        ('{"schema": 1, "schema": 1, "entries": []}', "'schema' occurs twice"),
        ('{"schema": 1, "entries": {}}', "entries is {}; it must be of type list"),
        ('{"schema": 1, "entries": [NaN]}', "NaN is not a number"),
        ('{"schema": 1, "entries": [], "baselines": {"net": {"acc1": null}}}', "baseline net: acc1 is None"),
        ('{"schema": 1, "entries": [], "baselines": {"net": 70}}', "baseline net: net is 70; it must be of type dict"),
        ('{"schema": 1, "entries": [], "extra": 1}', "unknown field 'extra'"),
        ('{"schema": 1, "entries": [], "licenses": {"MIT": 3}}', "licenses"),
        ("[" * 100_000, "not valid JSON"),
        ('{"schema": ' + "9" * 10_000 + "}", "not valid JSON"),
    ],
)
def test_hostile_json(text: str, reason: str) -> None:
    with pytest.raises(ManifestError, match=reason):
        manifest.parse(text)


def test_too_large(tmp_path: Path) -> None:
    with (tmp_path / "m.json").open("wb") as file:
        file.truncate(manifest.MAX_BYTES + 1)
    with pytest.raises(ManifestError, match="larger than"):
        manifest.load([tmp_path / "m.json"])


def test_same_file_name_in_another_case() -> None:
    other = {**FACTS, "recipe": "yours", "file": "MINE.safetensors"}
    with pytest.raises(ManifestError, match="same file name"):
        manifest.parse(text_of(FACTS, other))


def test_two_defaults() -> None:
    one, two = ({**FACTS, "recipe": r, "file": f"{r}.pth", "default": True} for r in "ab")
    with pytest.raises(ManifestError, match="both the default"):
        manifest.parse(text_of(one, two))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "LA", "1"])
def test_preprocessing_takes_any_image(mode: str) -> None:
    from PIL import Image

    output = Preprocessing(resize=40, crop=32).build()(Image.new(mode, (61, 47)))
    assert output.shape == (3, 32, 32)


def test_preprocessing_is_torchvisions_protocol() -> None:
    # Against torchvision's own preset for its ImageNet weights, on an odd-sized gradient.
    import numpy as np
    import torch
    from PIL import Image
    from torchvision.transforms._presets import ImageClassification

    ramp = np.add.outer(np.arange(301), np.arange(397)) % 256
    image = Image.fromarray(np.stack([ramp, ramp[::-1], 255 - ramp], axis=2).astype("uint8"))
    ours, theirs = Preprocessing().build()(image), ImageClassification(crop_size=224)(image)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "changes", [{"resize": 100}, {"std": (0.2, 0.2, 0.0)}, {"mean": ()}, {"test_crop": 9}, {"crop": 0.5}]
)
def test_preprocessing_refuses(changes: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        Preprocessing(**changes)
