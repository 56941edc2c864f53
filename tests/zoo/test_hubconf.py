"""torch.hub from a clone in which the package is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from forked import run_code

import antialiased_zoo as az

ROOT = Path(__file__).parents[2]


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> str:
    """The repository's name, where torch.hub would download it from: this clone stands for the download."""
    monkeypatch.setattr(torch.hub, "_get_cache_or_reload", lambda *_, **__: str(ROOT))
    return "owner/antialiased-zoo"


def test_it_lists_every_network_and_nothing_else(github: str) -> None:
    assert sorted(torch.hub.list(github, trust_repo=True)) == sorted(az.list_models())


def test_help_shows_the_arguments(github: str) -> None:
    text = torch.hub.help(github, "resnet50", trust_repo=True)
    assert "filter_size" in text
    assert "pretrained" in text


def test_it_works_without_the_package_installed(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("hubconf.py", "antialiased_zoo", "weights_manifest.json"):
        (clone / name).symlink_to(ROOT / name)
    code = f"""
import sys
sys.path[:] = [p for p in sys.path if p not in ("", {str(ROOT)!r})]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
import torch
model = torch.hub.load({str(clone)!r}, "resnet18", source="local", filter_size=3, num_classes=5)
print(type(model).__name__, model.fc.out_features, sys.modules["antialiased_zoo"].__file__)
"""
    done = run_code(f"import os; os.chdir({str(tmp_path)!r})\n{code}", tmp_path)
    assert done.stdout.split() == ["ResNet", "5", str(clone / "antialiased_zoo" / "__init__.py")]
