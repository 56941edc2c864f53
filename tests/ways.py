"""The ways in which a blur can be computed."""

from __future__ import annotations

import pytest

from antialiased_zoo import pooling, resample

WAYS = ("without a padded copy", "slices", "the plain formula")


def take(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes one way for maps of every size and dtype."""
    monkeypatch.setattr(resample, "_convolves_slowly", lambda x: way == "slices")
    monkeypatch.setattr(resample, "_takes_borders", lambda x: way == "without a padded copy")
    monkeypatch.setattr(pooling, "_goes_densely", lambda x: way == "without a padded copy")
