"""Ways to quantise a network to eight bits; `deploy_int8.py` measures the results."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from antialiased_zoo.inference import export_model, load_exported

Network = Callable[[Tensor], Tensor]
#: Quantises a network, given images to calibrate on; the given network may be consumed.
Way = Callable[[nn.Module, Tensor], Network]


def pt2e(model: nn.Module, seen: Tensor) -> Network:
    """PT2E's static quantisation as for Inductor on x86; runs in Python, with simulated eight-bit values."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    # Otherwise the calls of one ReLU module count as one operation, which the quantizer rejects.
    program = torch.export.export(model, (seen[:2],), strict=True, dynamic_shapes=({0: torch.export.Dim.AUTO},))
    prepared = prepare_pt2e(program.module(), quantizer)
    for batch in seen.split(8):
        prepared(batch)
    return convert_pt2e(prepared)


def torchao(config: str) -> Way:
    """One of torchao's configurations by name; they quantise linear layers."""

    def quantise(model: nn.Module, _: Tensor) -> Network:
        import torchao.quantization

        torchao.quantization.quantize_(model, getattr(torchao.quantization, config)())
        return model

    return quantise


def onnx_runtime(model: nn.Module, seen: Tensor) -> Network:
    """ONNX Runtime's static quantisation, one scale per channel."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        batches = iter(seen.split(8))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch.numpy()}

    with tempfile.TemporaryDirectory() as folder:
        plain, ready, small = (f"{folder}/{name}.onnx" for name in ("plain", "ready", "small"))
        export_model(model, plain, input_size=tuple(seen.shape[1:]), dynamic=["batch"])
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantization.quantize_static(ready, small, Reader(), per_channel=True)
        return load_exported(small, "onnx")


WAYS: dict[str, Way] = {
    "float32": lambda model, _: model,
    "PT2E static int8": pt2e,
    "torchao int8 weights": torchao("Int8WeightOnlyConfig"),
    "torchao dynamic int8": torchao("Int8DynamicActivationInt8WeightConfig"),
    "ONNX Runtime int8": onnx_runtime,
}
