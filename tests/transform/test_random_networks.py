"""What holds of `antialias` on random networks; `scripts/random_networks.py` tries thousands."""

from __future__ import annotations

import random_networks
import torch
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=12, deadline=None, derandomize=True)  # a new draw each time would make CI a lottery
@given(data=st.data())
def test_random_networks(data: st.DataObject) -> None:
    torch.manual_seed(0)
    net = random_networks.network(lambda options: data.draw(st.sampled_from(list(options))))
    tool = data.draw(st.sampled_from(list(random_networks.TOOLS)))
    size = data.draw(st.tuples(st.integers(70, 80), st.integers(70, 80)))
    assert random_networks.faults(net, tool, size) == []
