"""The ways in which a blur can be computed."""

from __future__ import annotations

import pytest

from antialiased_zoo.layers import dispatch as resample
from antialiased_zoo.layers import pooling
from antialiased_zoo.layers.cpu.bordered_blur import bordered_blur
from antialiased_zoo.layers.cpu.padded_blur import padded_blur

WAYS = ("without a padded copy", "its own gradient", "slices", "the plain formula")
_QUICKER = {"without a padded copy": bordered_blur, "its own gradient": padded_blur}


def take(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes one way for maps of every size and dtype."""
    monkeypatch.setattr(resample, "_convolves_slowly", lambda x: way == "slices")
    monkeypatch.setattr(resample, "_quicker", lambda x: _QUICKER.get(way))
    monkeypatch.setattr(pooling, "_goes_densely", lambda x: way == "without a padded copy")
