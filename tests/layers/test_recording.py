"""Tools that see the calls of torch's functions, as profilers and quantisers do, see every blur."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from antialiased_zoo import layers
from antialiased_zoo.layers.filters import Blur
from antialiased_zoo.layers.gpu import switch


class Recorder(TorchFunctionMode):
    """Notes which functions are called, and the tensors that they change in place."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[Any] = []
        self.changed = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.called.append(func)
        before = [(each, each._version) for each in args if isinstance(each, Tensor)]
        result = func(*args, **(kwargs or {}))
        self.changed += sum(each._version != version for each, version in before)
        return result


def made(name: str, ndim: int) -> torch.nn.Module:
    kind = getattr(layers, name if ndim == 2 and "Pool" not in name else f"{name}{ndim}d")
    return kind(2) if "Pool" in name else kind(4)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("name", ["Downsample", "MaxBlurPool", "AvgBlurPool", "BlurUpsample"])
def test_replaced_functions_are_called(name: str, ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed's profiler and calflops count by replacing functions."""
    layer, x = made(name, ndim), torch.randn(1, 4, *[8] * ndim)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        expected = layer(x)
    counted = 0

    def replaced(function: Callable[..., Tensor], is_transposed: bool) -> Callable[..., Tensor]:
        def count(x: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            nonlocal counted
            y = function(x, weight, *args, **kwargs)
            counted += weight[0].numel() * (x if is_transposed else y).numel()
            return y

        return count

    for which in ("conv", "conv_transpose"):
        function = getattr(F, f"{which}{ndim}d")
        monkeypatch.setattr(F, f"{which}{ndim}d", replaced(function, which == "conv_transpose"))
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)
    assert counted == counter.get_total_flops() / 2 > 0


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("name", ["Downsample", "MaxBlurPool", "AvgBlurPool", "BlurUpsample"])
def test_recorded_layers_call_torch_and_change_nothing_in_place(name: str, ndim: int) -> None:
    """NNCF quantises the graph of recorded calls; buffers that are written in place would cut it."""
    layer, x = made(name, ndim), torch.randn(1, 4, *[8] * ndim)
    expected = layer(x)
    with Recorder() as recorder:
        torch.testing.assert_close(layer(x), expected)
    kind = "conv_transpose" if name == "BlurUpsample" else "conv"
    assert getattr(F, f"{kind}{ndim}d") in recorder.called
    assert not recorder.changed


def test_a_recorder_sees_no_gpu_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "_choice", None)
    monkeypatch.setattr(switch, "_works", lambda device: True)
    with FakeTensorMode():
        x, blur = torch.empty(1, 4, 8, 8, device="cuda"), Blur.make(4, 2, "reflect", 0, 2)
    assert switch.supports(x, blur)
    with Recorder():
        assert not switch.supports(x, blur)
