"""The kernels that can compute a blur, each forced upon every tensor that it can take."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from antialiased_zoo.layers import dispatch
from antialiased_zoo.layers.eligibility import is_plain

#: For what the oldest supported torch cannot do, as docs/deploy.md says; strict, so that a cure is noticed.
fails_on_oldest = pytest.mark.xfail(
    torch.__version__.startswith("2.6."),
    reason="torch 2.6 lists a graph's constants in its state dict",
    strict=True,
)

WAYS = ("convolution", "slices", "dense pool")


def take(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Force one kernel for maps of every size, layout and dtype."""
    rows = {row.name: replace(row, serves=lambda *_: True) for row in dispatch.BLUR}
    monkeypatch.setattr(dispatch, "BLUR", [rows["slices" if way == "slices" else "convolution"]])
    pools = {row.name: row for row in dispatch.MAX_BLUR}
    dense = replace(pools["dense pool"], serves=lambda x, window, _: is_plain(x) and max(window.size) > 1)
    monkeypatch.setattr(dispatch, "MAX_BLUR", [*([dense] if way == "dense pool" else []), pools["pool, blur"]])
