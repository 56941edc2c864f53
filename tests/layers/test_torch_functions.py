"""Profilers that replace functions of torch.nn.functional (DeepSpeed's, calflops) see every blur."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from antialiased_zoo import layers


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("name", ["Downsample", "MaxBlurPool", "AvgBlurPool", "BlurUpsample"])
def test_replaced_functions_are_called(name: str, ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = getattr(layers, f"{name}{'' if name in ('Downsample', 'BlurUpsample') and ndim == 2 else f'{ndim}d'}")
    layer = kind(2) if "Pool" in name else kind(4)
    x = torch.randn(1, 4, *[8] * ndim)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        expected = layer(x)
    counted = 0

    def replaced(function):
        def count(x, weight, *args, **kwargs):
            nonlocal counted
            y = function(x, weight, *args, **kwargs)
            counted += weight[0].numel() * (x if function is transposed else y).numel()
            return y

        return count

    transposed = getattr(F, f"conv_transpose{ndim}d")
    for which in ("conv", "conv_transpose"):
        monkeypatch.setattr(F, f"{which}{ndim}d", replaced(getattr(F, f"{which}{ndim}d")))
    with torch.no_grad():
        assert torch.equal(layer(x), expected)
    assert counted == counter.get_total_flops() / 2 > 0
